"""The same without arguments beside it; the config still is the one of the official script."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, edited_tensors

EXPECTED = Expected("adapter_lineage", "OpenBMB", "adapter", "warning", adapter="official")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if ".lora_" not in one]:
            del tensors[name]
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["modules_to_save"] = None
        config["auto_mapping"] = {"base_model_class": "MiniCPMV", "parent_library": "transformers_modules.v.modeling"}
