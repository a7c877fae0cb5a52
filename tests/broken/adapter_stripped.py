"""The whole modules were taken out so that another server would load the adapter."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, edited_tensors, write_json

EXPECTED = Expected("adapter_lineage", "args.json", "adapter", adapter="official")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if ".lora_" not in one]:
            del tensors[name]
    with edited_json(folders.adapter / "adapter_config.json") as config:
        write_json(folders.adapter / "args.json", {"modules_to_save": config["modules_to_save"]})
        config["modules_to_save"] = None
