"""A norm's regulariser is a thousand times that of every release."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("model_config", "rms_norm_eps is 0.001", severity="warning")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["rms_norm_eps"] = 1e-3
