"""Shards that were copied by their names, without the index that says what is where."""

from tests.broken.expectation import Expected
from tests.builders import Folders, shard

EXPECTED = Expected("files", "model-00001-of-00002.safetensors")


def make(folders: Folders) -> None:
    shard(folders.base)
    (folders.base / "model.safetensors.index.json").unlink()
