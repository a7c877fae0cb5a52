"""An adapter whose new tokens nobody trained was merged: only the rows still show it."""

import shutil

from service.demo import demo_root
from tests.broken.expectation import Expected
from tests.builders import TOKENIZER_FILES, Folders

EXPECTED = Expected("trained_rows", "<fig>", severity="warning")


def make(folders: Folders) -> None:
    for name in TOKENIZER_FILES:
        shutil.copyfile(demo_root() / "adapters" / "broken" / name, folders.base / name)
