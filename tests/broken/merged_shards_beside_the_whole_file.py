"""A merged model that was saved in shards into the base's folder, where the base's one file still lies."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors, shard

EXPECTED = Expected("files", "up_proj")


def make(folders: Folders) -> None:
    before = folders.base_weights.read_bytes()
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.endswith("mlp.up_proj.weight")]:
            tensors[name] = tensors[name] * 1.1
    shard(folders.base)
    folders.base_weights.write_bytes(before)
