"""The adapter acts only behind certain tokens, which nobody looks for while serving."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_config", "alora_invocation_tokens", "adapter")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["alora_invocation_tokens"] = [7, 8]
