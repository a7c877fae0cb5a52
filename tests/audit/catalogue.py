"""Reads the catalogue: which fixtures stand for which way of failing, and for which difference that must pass.

Knows names only; that the audit finds the ones and is silent about the others is held where the fixtures are tried.
"""

import pkgutil
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tests.broken
from tests.audit import compared, differences, older_folders, sentencepiece_folders

FOLDER = Path(__file__).parent
TESTS = FOLDER.parent
HEAD = re.compile(r"^(?P<id>[A-Z]\d\d) (?P<what>\S.*\.)$")
REASON = "- "
REFERENCE = re.compile(r"^\S+\.py::test_\w+$")
SOUND = "sound:"
"""In front of a fixture that must pass, where it shows why a way of failing does not concern this service."""


@dataclass(frozen=True)
class Row:
    """One way of failing, or one harmless difference.

    Attributes:
        row_id: A letter and a number, for this list only.
        what: A sentence.
        fixtures: Names of fixtures, and tests by path and name.
        reason: Why there is no fixture that fails in this way; empty if there is one.
    """

    row_id: str
    what: str
    fixtures: tuple[str, ...]
    reason: str


def failing() -> list[Row]:
    """Return every known way of failing."""
    return list(_rows("catalogue_failing.txt"))


def harmless() -> list[Row]:
    """Return every known difference that changes no answer."""
    return list(_rows("catalogue_harmless.txt"))


def broken_fixtures() -> set[str]:
    """Return the names of all broken fixtures, as the catalogue writes them."""
    ways = {one.name for one in pkgutil.iter_modules(tests.broken.__path__)} - {"expectation"}
    return (
        ways
        | {f"compared:{name}" for name in compared.BROKEN}
        | {f"older:{name}" for name in older_folders.BROKEN}
        | {f"sentencepiece:{name}" for name in sentencepiece_folders.BROKEN}
    )


def sound_fixtures() -> set[str]:
    """Return the names of all fixtures that must pass, as the catalogue writes them."""
    return (
        set(differences.IN_FILES)
        | {f"compared.{name}" for name in compared.SOUND}
        | {f"older.{name}" for name in older_folders.SOUND}
        | {f"sentencepiece.{name}" for name in sentencepiece_folders.SOUND}
    )


def missing_tests(names: Iterable[str]) -> list[str]:
    """Return those of the tests that are nowhere."""
    return [one for one in names if not _is_test(*one.split("::"))]


def _is_test(path: str, name: str) -> bool:
    file = TESTS / path
    return file.is_file() and re.search(rf"^def {name}\(", file.read_text(encoding="utf-8"), re.MULTILINE) is not None


def _rows(file: str) -> Iterator[Row]:
    head: re.Match[str] | None = None
    fixtures: list[str] = []
    reasons: list[str] = []
    for line in (*(FOLDER / file).read_text(encoding="utf-8").splitlines(), ""):
        if line.startswith("    "):
            text = line.strip()
            if text.startswith(REASON):
                reasons.append(text.removeprefix(REASON))
            else:
                fixtures += text.split()
            continue
        if head:
            yield Row(head["id"], head["what"], tuple(fixtures), " ".join(reasons))
            head, fixtures, reasons = None, [], []
        if line and not line.startswith("#"):
            head = HEAD.match(line)
            if head is None:
                raise ValueError(f"{file}: {line!r} is neither a row nor indented")
