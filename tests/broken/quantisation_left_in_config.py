"""Merged on a quantised base and saved in full, with its old config."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("model_config", "quantised")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
