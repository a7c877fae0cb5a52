"""One shard of two was not copied."""

from tests.broken.expectation import Expected
from tests.builders import Folders, shard

EXPECTED = Expected("files", "model-00002-of-00002.safetensors")


def make(folders: Folders) -> None:
    shard(folders.base)
    (folders.base / "model-00002-of-00002.safetensors").unlink()
