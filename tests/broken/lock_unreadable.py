"""The lock was cut off."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("lock", "checkpoint.lock.json", severity="warning")


def make(folders: Folders) -> None:
    (folders.base / "checkpoint.lock.json").write_text('{"schema_version": 1, "files"', encoding="utf-8")
