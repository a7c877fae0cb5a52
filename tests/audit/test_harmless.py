"""Differences that a naive audit flags and that change no answer: the verdict stays consistent, without a warning."""

from pathlib import Path

import pytest
from measured import measure

from service.audit.judging import audit
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.domain.judgement import Severity, Verdict
from tests.audit.differences import IN_FILES, LOADED
from tests.builders import copy_demo

LOUD = (Severity.FATAL, Severity.WARNING, Severity.SKIPPED)


@pytest.mark.parametrize("name", IN_FILES)
def test_a_harmless_difference_in_files_is_not_flagged(name: str, tmp_path: Path) -> None:
    adapter, make = IN_FILES[name]
    folders = copy_demo(tmp_path, adapter)
    make(folders)
    report = audit(folders.facts())
    assert [one.message for one in report.findings() if one.severity in LOUD] == []
    assert report.overall is Verdict.CONSISTENT


@pytest.mark.parametrize("name", LOADED["base"])
def test_a_harmless_base_stays_harmless_once_loaded(name: str, tmp_path: Path) -> None:
    adapter, make = IN_FILES[name]
    folders = copy_demo(tmp_path, adapter)
    make(folders)
    report = audit(folders.facts(), measure(folders.base, {adapter: folders.adapter}))
    assert [one.message for one in report.findings() if one.severity in LOUD] == []
    assert report.is_complete


def test_harmless_adapters_stay_harmless_once_loaded_side_by_side(tmp_path: Path) -> None:
    folders = {}
    for name in LOADED["adapter"]:
        adapter, make = IN_FILES[name]
        one = copy_demo(tmp_path / name, adapter)
        make(one)
        folders[name] = one.adapter
        base = one.base
    facts = read_checkpoint(locate(str(base)), {name: locate(str(one)) for name, one in folders.items()})
    report = audit(facts, measure(base, folders))
    assert [(one.subject, one.message) for one in report.findings() if one.severity in LOUD] == []


@pytest.mark.parametrize("adapter", ["json", "tokens", "official"])
def test_the_demo_s_sound_adapters_and_its_merged_folder_are_consistent(adapter: str, tmp_path: Path) -> None:
    folders = copy_demo(tmp_path, adapter)
    report = audit(folders.facts())
    assert [one.message for one in report.findings() if one.severity in LOUD] == []
