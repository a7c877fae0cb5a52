"""Somebody edited a setting after the folder was recorded."""

from service.cli import main
from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("lock", "generation_config.json")


def make(folders: Folders) -> None:
    assert main(["record", str(folders.base)]) == 0
    with edited_json(folders.base / "generation_config.json") as config:
        config["temperature"] = 0.7
