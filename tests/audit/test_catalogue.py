"""The catalogue is whole: every way of failing has its fixtures or a reason, and every fixture stands for something.

What `test_broken.py`, `test_compared.py`, `test_older_folders.py`, `test_sentencepiece.py` and `test_harmless.py` hold
of the fixtures is so held of the ways.
"""

from itertools import pairwise

import pytest

from tests.audit.catalogue import (
    REFERENCE,
    SOUND,
    Row,
    broken_fixtures,
    failing,
    harmless,
    missing_tests,
    sound_fixtures,
)

LETTERS = "TELMCVX"
NOT_GIVEN = {"T15", "E03", "E14", "E19", "L18", "C05", "V12"}
"""Numbers that no way has."""
NOTHING_SHOWS_IT = {"V16", "H32"}
"""Rows without any test: no file and no answer differs."""


def named(rows: list[Row]) -> list[str]:
    return [one for row in rows for one in row.fixtures]


def ids(rows: list[Row], letter: str) -> list[int]:
    return [int(row.row_id[1:]) for row in rows if row.row_id[0] == letter]


def test_every_broken_fixture_is_in_the_catalogue_and_every_name_in_it_is_a_fixture() -> None:
    names = {one for one in named(failing()) if not REFERENCE.match(one) and not one.startswith(SOUND)}
    assert names - broken_fixtures() == set()
    assert broken_fixtures() - names == set()


def test_every_sound_fixture_is_in_the_catalogue_and_every_name_in_it_is_a_fixture() -> None:
    names = {one for one in named(harmless()) if not REFERENCE.match(one)}
    assert names - sound_fixtures() == set()
    assert sound_fixtures() - names == set()
    shown = {one.removeprefix(SOUND) for one in named(failing()) if one.startswith(SOUND)}
    assert shown - sound_fixtures() == set()


def test_every_test_that_the_catalogue_names_exists() -> None:
    assert missing_tests(one for one in named([*failing(), *harmless()]) if REFERENCE.match(one)) == []


@pytest.mark.parametrize("row", [*failing(), *harmless()], ids=lambda row: row.row_id)
def test_every_row_is_tried_or_says_why_not(row: Row) -> None:
    assert row.fixtures or row.row_id in NOTHING_SHOWS_IT
    if row.row_id[0] != "H" and not row.reason:
        assert any(not one.startswith(SOUND) for one in row.fixtures)
    assert row.fixtures or row.reason
    assert len(set(row.fixtures)) == len(row.fixtures)


@pytest.mark.parametrize("letter", LETTERS)
def test_no_way_of_failing_is_left_out(letter: str) -> None:
    given = ids(failing(), letter)
    skipped = {int(one[1:]) for one in NOT_GIVEN if one[0] == letter}
    assert given == [number for number in range(1, given[-1] + 1) if number not in skipped]


def test_rows_are_in_order_and_every_harmless_difference_is_there() -> None:
    rows = failing()
    assert {row.row_id[0] for row in rows} == set(LETTERS)
    assert all(LETTERS.index(a.row_id[0]) <= LETTERS.index(b.row_id[0]) for a, b in pairwise(rows))
    assert ids(harmless(), "H") == list(range(1, len(harmless()) + 1))
