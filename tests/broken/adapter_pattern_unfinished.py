"""A key of rank_pattern is no regular expression."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_config", "(q_proj", "adapter")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["rank_pattern"] = {"(q_proj": 8}
