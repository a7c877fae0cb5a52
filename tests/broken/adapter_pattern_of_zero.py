"""alpha_pattern multiplies the update of some modules by nothing."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_config", "down_proj", "adapter")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["alpha_pattern"] = {"down_proj": 0}
