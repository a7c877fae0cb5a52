"""A shard of another save: the index names a tensor that it lacks."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, Folders, edited_tensors, read_json, shard

EXPECTED = Expected("files", "embed_tokens")


def make(folders: Folders) -> None:
    shard(folders.base)
    index = read_json(folders.base / "model.safetensors.index.json")
    with edited_tensors(folders.base / index["weight_map"][EMBEDDING]) as tensors:
        del tensors[EMBEDDING]
