"""A SentencePiece vocabulary must be read as its tokenizer.json says, whatever flags the class goes by."""

import shutil
from pathlib import Path

import pytest

from service.audit.judging import audit
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.domain.judgement import Finding, Severity
from tests.audit.sentencepiece_folders import BROKEN, SOUND, sound_folder

LOUD = (Severity.FATAL, Severity.WARNING, Severity.SKIPPED)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_folder(tmp_path_factory.mktemp("sentencepiece") / "base")


def loud(folder: Path) -> list[Finding]:
    report = audit(read_checkpoint(locate(str(folder)), {}))
    return [one for one in report.findings() if one.severity in LOUD]


@pytest.mark.parametrize("name", BROKEN)
def test_words_that_get_other_ids_than_in_training_are_found(name: str, source: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(source, tmp_path / "x")
    BROKEN[name](folder)
    found = loud(folder)
    assert {(one.check, one.severity.value) for one in found} == {("tokenizer_faithful", "fatal")}, found
    assert all("differently from tokenizer.json" in one.message for one in found)


@pytest.mark.parametrize("name", SOUND)
def test_what_is_read_as_the_file_says_is_not_flagged(name: str, source: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(source, tmp_path / "x")
    SOUND[name](folder)
    assert [(one.check, one.message) for one in loud(folder)] == []
