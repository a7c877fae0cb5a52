"""One of two whole modules was taken out of file and config; the arguments of the training name both."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, edited_tensors, write_json

EXPECTED = Expected("adapter_lineage", "merger whole", "adapter", adapter="official")


def make(folders: Folders) -> None:
    write_json(folders.adapter / "args.json", {"train_type": "lora", "modules_to_save": ["embed_tokens", "merger"]})
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "merger." in one]:
            del tensors[name]
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["modules_to_save"] = ["embed_tokens"]
