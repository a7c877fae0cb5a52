"""An export copied weights and tokenizer, but nothing that says how pictures are read."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("files", "processor_config.json")


def make(folders: Folders) -> None:
    (folders.base / "processor_config.json").unlink()
