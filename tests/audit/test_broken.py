"""Every way of failing in tests/broken is found by exactly its check; one file there is one test here."""

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from measured import measure

import tests.broken
from service.audit.judging import audit
from service.domain.facts import CheckpointFacts, LoadedFacts
from service.domain.judgement import BASE, Severity, Verdict, adapter_subject
from service.engine.lean import kernels
from tests.audit.compared import BROKEN as COMPARED
from tests.audit.older_folders import BROKEN as OLDER
from tests.builders import Folders, copy_demo

NAMES = [one.name for one in pkgutil.iter_modules(tests.broken.__path__) if one.name != "expectation"]
CASES = {name: importlib.import_module(f"tests.broken.{name}") for name in NAMES}
NOTES_ONLY = {"other_servers"}
"""Checks that find no fault, and only say what is different elsewhere."""
GUARDS = {"control_text", "answer_ends"}
"""Checks that no edit of a file trips: test_behaviour.py trains an adapter that cannot end, and breaks facts."""
QUIET = (Severity.NOTE, Severity.SKIPPED)


def of_stage(stage: str, subject: str) -> list[str]:
    return [name for name, one in CASES.items() if (one.EXPECTED.stage, one.EXPECTED.subject) == (stage, subject)]


def broken(case: ModuleType, to: Path) -> Folders:
    folders = copy_demo(to, case.EXPECTED.adapter)
    case.make(folders)
    return folders


def expect(case: ModuleType, facts: CheckpointFacts, loaded: LoadedFacts | None, adapter_id: str) -> None:
    """Judge, and compare what is not a note with the one expected finding."""
    expected = case.EXPECTED
    report = audit(facts, loaded)
    subject = BASE if expected.subject == "base" else adapter_subject(adapter_id)
    found = [one for one in report.findings() if one.severity not in QUIET]
    checks = {expected.check, expected.also or expected.check}
    assert {(one.check, one.severity.value, one.subject) for one in found} == {
        (check, expected.severity, subject) for check in checks
    }, [one.message for one in found]
    assert any(expected.named in one.message for one in found), [one.message for one in found]
    assert all(one.consequence and one.repair for one in found)
    assert not [one.check for one in report.findings() if _holds_foreign_numbers(one.evidence)]
    is_fatal = expected.severity == "fatal"
    assert report.subjects[subject].verdict is (Verdict.INCONSISTENT if is_fatal else Verdict.CONSISTENT)


def _holds_foreign_numbers(value: Any) -> bool:
    """Say whether NumPy's or torch's numbers are in a finding's evidence, which reports write as texts."""
    if isinstance(value, Mapping):
        return any(_holds_foreign_numbers(one) for pair in value.items() for one in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return any(_holds_foreign_numbers(one) for one in value)
    return not isinstance(value, str | int | float | bool | None)


@pytest.mark.parametrize("name", of_stage("files", "base"))
def test_a_broken_base_is_found_in_its_files_by_exactly_its_check(name: str, tmp_path: Path) -> None:
    folders = broken(CASES[name], tmp_path)
    expect(CASES[name], folders.facts(with_adapter=False), None, "")


@pytest.mark.parametrize("name", of_stage("files", "adapter"))
def test_a_broken_adapter_is_found_in_its_files_and_the_base_stays_consistent(name: str, tmp_path: Path) -> None:
    folders = broken(CASES[name], tmp_path)
    expect(CASES[name], folders.facts(), None, folders.adapter.name)


@pytest.mark.parametrize("name", of_stage("loaded", "base"))
def test_a_broken_base_is_found_once_it_is_loaded(name: str, tmp_path: Path) -> None:
    folders = broken(CASES[name], tmp_path)
    facts = folders.facts(with_adapter=False)
    assert not [one for one in audit(facts).findings() if one.severity not in QUIET]
    expect(CASES[name], facts, measure(folders.base, {}), "")


@pytest.mark.skipif(not kernels.are_there(), reason="no C compiler, or no AVX-512")
@pytest.mark.parametrize("name", of_stage("int8", "base"))
def test_a_base_that_cannot_be_rounded_is_found_once_it_is_loaded_in_eight_bits(name: str, tmp_path: Path) -> None:
    folders = broken(CASES[name], tmp_path)
    facts = folders.facts(with_adapter=False)
    in_full = measure(folders.base, {}, dtype="bfloat16")
    assert not [one for one in audit(facts, in_full).findings() if one.severity not in QUIET]
    expect(CASES[name], facts, measure(folders.base, {}, dtype="bfloat16", quantization="int8"), "")


@pytest.fixture(scope="module")
def loaded_adapters(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Folders], LoadedFacts]:
    """All adapters that only loading shows to be broken, on one base."""
    root = tmp_path_factory.mktemp("loaded")
    folders = {name: broken(CASES[name], root / name) for name in of_stage("loaded", "adapter")}
    base = next(iter(folders.values())).base
    return folders, measure(base, {name: one.adapter for name, one in folders.items()})


@pytest.mark.parametrize("name", of_stage("loaded", "adapter"))
def test_a_broken_adapter_is_found_once_it_is_loaded(
    name: str, loaded_adapters: tuple[dict[str, Folders], LoadedFacts]
) -> None:
    folders, loaded = loaded_adapters
    facts = folders[name].facts()
    adapter_id = folders[name].adapter.name
    assert not [one for one in audit(facts).findings() if one.severity not in QUIET]
    mine = LoadedFacts(loaded.base, {adapter_id: loaded.adapters[name]})
    expect(CASES[name], facts, mine, adapter_id)


def test_every_check_has_a_way_of_failing() -> None:
    from service.audit.catalogue import CHECKS

    covered = {one.EXPECTED.check for one in CASES.values()}
    covered |= {one.check for one in (*COMPARED.values(), *OLDER.values())}
    assert covered == {check.check_id for check in CHECKS} - NOTES_ONLY - GUARDS


def test_every_way_of_failing_says_what_it_is() -> None:
    assert all(one.__doc__ for one in CASES.values())
