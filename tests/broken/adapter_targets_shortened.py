"""A converter kept two of the target modules; the factors of the others are dropped."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_config", "not among target_modules", "adapter")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["target_modules"] = ["q_proj", "v_proj"]
