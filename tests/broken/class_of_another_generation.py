"""architectures names the next generation's class."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("model_config", "MiniCPMV4_7")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["architectures"] = ["MiniCPMV4_7ForConditionalGeneration"]
