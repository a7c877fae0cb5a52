"""`record`: what is written down, what counts as a change, and what does not."""

import json
import shutil
from pathlib import Path

import pytest

from service.audit.judging import audit
from service.checkpoint.lock import LOCK
from service.cli import main
from service.demo import demo_root
from service.domain.judgement import Severity, Verdict
from tests.builders import copy_demo, edited_json, edited_tensors, read_json, write_json


def test_a_base_is_recorded_with_what_its_files_mean(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    assert main(["record", str(folders.base)]) == 0
    lock = read_json(folders.base / LOCK)
    assert lock["verdict"] == "consistent"
    assert set(lock["files"]) == {path.name for path in folders.base.iterdir()} - {LOCK}
    assert all(len(one["sha256"]) == 64 for one in lock["files"].values())
    assert lock["tokenizer"]
    assert lock["template"]
    assert str(tmp_path) not in json.dumps(lock)
    assert lock["fingerprint"] == folders.facts(with_adapter=False).base.fingerprint


def test_an_adapter_is_recorded_with_what_it_changes(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path, "tokens")
    assert main(["record", str(folders.adapter), "--base", str(folders.base)]) == 0
    lock = read_json(folders.adapter / LOCK)
    assert "<fig>" in lock["vocabulary"]["new_tokens"]
    assert len(lock["vocabulary"]["trained_tokens"]["lm_head"]) == 6
    assert lock["provenance"] == {"producer": "PEFT", "base": "minicpm-demo", "peft_version": "0.21.2"}


def test_what_is_not_served_may_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = copy_demo(tmp_path)
    main(["record", str(folders.base)])
    (folders.base / "README.md").write_text("# new", encoding="utf-8")
    moved = tmp_path / "elsewhere"
    shutil.copytree(folders.base, moved)
    assert main(["record", str(moved), "--check"]) == 0
    assert "as recorded on" in capsys.readouterr().out


def test_another_spelling_of_the_same_values_is_a_note(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    main(["record", str(folders.base)])
    path = folders.base / "config.json"
    write_json(path, dict(reversed(read_json(path).items())), indent=7)
    assert main(["record", str(folders.base), "--check"]) == 0
    found = [one for one in audit(folders.facts(with_adapter=False)).findings() if one.check == "lock"]
    assert [one.severity for one in found] == [Severity.NOTE]


@pytest.mark.parametrize("kind", ["changed", "missing", "new"])
def test_a_drifted_folder_is_refused_by_name(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = copy_demo(tmp_path)
    main(["record", str(folders.adapter)])
    if kind == "changed":
        with edited_tensors(folders.adapter_weights) as tensors:
            next(iter(tensors.values())).mul_(1.01)
    elif kind == "new":
        shutil.copy(folders.base / "tokenizer.json", folders.adapter)
    else:
        with edited_json(folders.adapter / LOCK) as lock:
            lock["files"]["chat_template.jinja"] = next(iter(lock["files"].values()))
    assert main(["record", str(folders.adapter), "--check"]) == 1
    assert f"{kind}: " in capsys.readouterr().out
    report = audit(folders.facts())
    assert report.subjects["adapter:json"].verdict is Verdict.INCONSISTENT


def test_what_cannot_be_checked_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = copy_demo(tmp_path)
    assert main(["record", str(folders.base), "--check"]) == 2
    assert "is missing" in capsys.readouterr().err
    write_json(folders.base / LOCK, {"schema_version": 99})
    assert main(["record", str(folders.base), "--check"]) == 2
    assert "99" in capsys.readouterr().err
    assert main(["record", str(tmp_path / "nothing")]) == 2


def test_a_lock_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "nowhere" / "lock.json"
    assert main(["record", str(demo_root() / "base"), "--output", str(output)]) == 2
    assert capsys.readouterr().err == f"{output} cannot be written: No such file or directory\n"
