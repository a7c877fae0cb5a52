"""The adapter adds virtual tokens to the prompt, which no weight can hold."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_config", "PROMPT_TUNING", "adapter")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["peft_type"] = "PROMPT_TUNING"
