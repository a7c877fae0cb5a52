"""Folders compared with their origin, or with origin and adapter: what is broken is found, what is sound is not."""

import shutil
from pathlib import Path

import pytest

from service.audit.judging import audit
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.demo import demo_root
from service.domain.judgement import BASE, Report, Severity, Verdict
from tests.audit.compared import ADAPTER, BROKEN, ORIGIN, SOUND, Make
from tests.builders import Folders

LOUD = (Severity.FATAL, Severity.WARNING, Severity.SKIPPED)


def report(to: Path, make: Make, against: str) -> Report:
    folders = Folders(to / "merged", ADAPTER)
    shutil.copytree(demo_root() / "merged", folders.base)
    make(folders)
    origin, adapter = locate(str(ORIGIN)), locate(str(ADAPTER))
    how = {"origin": origin} if against == "origin" else {}
    merged = (origin, adapter) if against == "merge" else None
    return audit(read_checkpoint(locate(str(folders.base)), {}, merged_from=merged, **how))


@pytest.mark.parametrize("name", BROKEN)
def test_what_only_a_comparison_shows_is_found_by_exactly_its_check(name: str, tmp_path: Path) -> None:
    case = BROKEN[name]
    found = [one for one in report(tmp_path, case.make, case.against).findings() if one.severity in LOUD]
    assert {(one.check, one.severity.value, one.subject) for one in found} == {(case.check, case.severity, BASE)}, [
        one.message for one in found
    ]
    assert any(case.named in one.message for one in found), [one.message for one in found]
    assert all(one.consequence and one.repair for one in found)


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_edit_of_a_tuned_folder_is_not_flagged(name: str, tmp_path: Path) -> None:
    against, make = SOUND[name]
    judged = report(tmp_path, make, against)
    assert [one.message for one in judged.findings() if one.severity in LOUD] == []
    assert judged.overall is Verdict.CONSISTENT
