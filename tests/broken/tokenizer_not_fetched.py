"""A clone without Git LFS, of which only the weights were fetched by hand."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("files", "tokenizer.json is a Git LFS pointer")


def make(folders: Folders) -> None:
    (folders.base / "tokenizer.json").write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d' * 32}\nsize 44101\n"
    )
