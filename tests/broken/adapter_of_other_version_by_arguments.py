"""The config names a folder of the training machine, the arguments beside it another version."""

from tests.broken.expectation import Expected
from tests.builders import Folders, write_json

EXPECTED = Expected("adapter_lineage", "MiniCPM-V-2_6", "adapter", "warning")


def make(folders: Folders) -> None:
    write_json(folders.adapter / "args.json", {"train_type": "lora", "model": "OpenBMB/MiniCPM-V-2_6", "lora_rank": 8})
