"""Magnitudes and their flag were both taken out, so that another server would load it."""

from tests.broken.expectation import Expected
from tests.builders import Folders, write_json

EXPECTED = Expected("adapter_lineage", "lora_magnitude_vector", "adapter")


def make(folders: Folders) -> None:
    write_json(folders.adapter / "args.json", {"train_type": "lora", "lora_rank": 8, "use_dora": True})
