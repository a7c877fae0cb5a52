"""A clone without Git LFS: the weights are three lines that name them."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("files", "model.safetensors is a Git LFS pointer")


def make(folders: Folders) -> None:
    folders.base_weights.write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d' * 32}\nsize 5496808\n"
    )
