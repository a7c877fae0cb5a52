"""The tokenizer is of another release, which has more tokens before those of pictures and thoughts."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("trained_rows", "<image> (id 773)")
PLACES = 20


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        added = document["added_tokens"]
        first = next(place for place, one in enumerate(added) if one["content"] == "<image>")
        others = [
            {**added[first], "id": added[first]["id"] + place, "content": f"<|reserved_{place}|>"}
            for place in range(PLACES)
        ]
        moved = [{**one, "id": one["id"] + PLACES} for one in added[first:]]
        document["added_tokens"] = [*added[:first], *others, *moved]
