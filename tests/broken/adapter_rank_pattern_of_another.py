"""rank_pattern gives modules a rank that their factors do not have."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_applied", "rank", "adapter")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["rank_pattern"] = {"q_proj": 4, "nothing_else": 8}
