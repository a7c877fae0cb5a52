"""A SentencePiece vocabulary must be read as its tokenizer.json says, whatever flags the class goes by."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from service.audit.check import BaseView
from service.audit.checks.token_flags import base_token_flags
from service.audit.judging import audit
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.domain.judgement import Finding, Severity
from tests.audit.sentencepiece_folders import BROKEN, SOUND, sound_folder
from tests.builders import edited_json

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


def test_merges_that_were_lost_are_named(source: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(source, tmp_path / "x")
    SOUND["a_class_that_takes_the_file_as_it_is"](folder)
    with edited_json(folder / "tokenizer.json") as document:
        document["model"]["merges"] = []
    found = loud(folder)
    assert {(one.check, one.severity) for one in found} == {("tokenizer_sound", Severity.FATAL)}
    assert any("to blame is merges: 0 for " in one.message for one in found)


def test_flags_of_turns_are_fatal_where_an_id_tells_a_minicpm4(source: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(source, tmp_path / "x")
    SOUND["a_class_that_takes_the_file_as_it_is"](folder)
    with edited_json(folder / "tokenizer.json") as document:
        next(one for one in document["added_tokens"] if one["content"] == "<|im_end|>")["rstrip"] = True
    base = read_checkpoint(locate(str(folder)), {}).base
    assert base.tokenizer is not None
    for token_id, severity in ((base.tokenizer.vocabulary["<|im_end|>"], Severity.WARNING), (73440, Severity.FATAL)):
        known = {**base.tokenizer.vocabulary, "<|im_end|>": token_id}
        view = BaseView(replace(base, tokenizer=replace(base.tokenizer, vocabulary=known)), None)
        assert [one.severity for one in base_token_flags(view)] == [severity]
