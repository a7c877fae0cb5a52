"""The config of the language model alone over a folder with a tower: it loads, and sees no picture."""

from tests.broken.expectation import Expected
from tests.builders import Folders, read_json, write_json

EXPECTED = Expected("weights_complete", "Qwen3_5ForCausalLM")


def make(folders: Folders) -> None:
    path = folders.base / "config.json"
    write_json(path, read_json(path)["text_config"] | {"architectures": ["Qwen3_5ForCausalLM"]})
