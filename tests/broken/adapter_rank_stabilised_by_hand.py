"""Rank stabilisation was switched on by hand; ms-swift's arguments say that training had none."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, write_json

EXPECTED = Expected("adapter_lineage", "use_rslora false", "adapter")


def make(folders: Folders) -> None:
    write_json(
        folders.adapter / "args.json",
        {"tuner_type": "lora", "lora_rank": 8, "lora_alpha": 16, "use_rslora": False, "target_modules": ["all-linear"]},
    )
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["use_rslora"] = True
