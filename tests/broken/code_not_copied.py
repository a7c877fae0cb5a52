"""A model of its own kind whose code was left behind."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("model_config", "modeling_own.py")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["model_type"] = "own"
        config["auto_map"] = {"AutoConfig": "configuration_own.Own", "AutoModel": "modeling_own.Own"}
