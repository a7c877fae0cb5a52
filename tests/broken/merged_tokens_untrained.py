"""An adapter whose new tokens nobody trained was merged: only the rows still show it."""

from service.demo import demo_root
from tests.broken.expectation import Expected
from tests.builders import Folders, copy_tokenizer

EXPECTED = Expected("trained_rows", "<fig>", severity="warning")


def make(folders: Folders) -> None:
    copy_tokenizer(demo_root() / "adapters" / "broken", folders.base)
