"""The index forgot a shard, so nobody reads it."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, shard

EXPECTED = Expected("weights_complete", "are in no file")


def make(folders: Folders) -> None:
    shard(folders.base, 3)
    with edited_json(folders.base / "model.safetensors.index.json") as index:
        index["weight_map"] = {name: file for name, file in index["weight_map"].items() if "00002" not in file}
