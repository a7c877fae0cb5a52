"""special_tokens_map.json is of the base before it was taught to chat."""

from tests.broken.expectation import Expected
from tests.builders import Folders, write_json

EXPECTED = Expected("stop_set", "special_tokens_map.json", severity="warning")


def make(folders: Folders) -> None:
    write_json(folders.base / "special_tokens_map.json", {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"})
