"""use_rslora is the word for no, which is as good as yes."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_config", "use_rslora", "adapter")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["use_rslora"] = "false"
