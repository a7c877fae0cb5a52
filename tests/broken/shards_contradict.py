"""Two shards hold the same tensor with different values."""

from safetensors.torch import load_file, save_file

from tests.broken.expectation import Expected
from tests.builders import Folders, shard

EXPECTED = Expected("files", "other values")


def make(folders: Folders) -> None:
    shard(folders.base, 2)
    weights = load_file(folders.base / "model-00001-of-00002.safetensors")
    other = load_file(folders.base / "model-00002-of-00002.safetensors")
    name = sorted(other)[0]
    weights[name] = other[name] + 1
    save_file(weights, folders.base / "model-00001-of-00002.safetensors", metadata={"format": "pt"})
