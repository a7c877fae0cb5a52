"""M-RoPE sections of a model with wider heads."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("model_config", "mrope_section")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["rope_parameters"]["mrope_section"] = [11, 11, 10]
