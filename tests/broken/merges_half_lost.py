"""Half of the merges are gone: words fall into pieces."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("tokenizer_sound", "to blame is merges: 246 for 492 tokens")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        merges = document["model"]["merges"]
        del merges[len(merges) // 2 :]
