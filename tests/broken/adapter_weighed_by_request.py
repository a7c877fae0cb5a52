"""A mixture of adapters that weighs its parts anew for every request, outside of the modules that are served."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_config", "XLORA", "adapter")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["peft_type"] = "XLORA"
