"""The head was to be saved, but the file lacks it."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("extra_tensors", "lm_head", "adapter")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["modules_to_save"] = ["lm_head"]
