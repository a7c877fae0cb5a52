"""`merge`: what is written answers as the mounted adapter does, and nothing is written that does not."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from service.audit.judging import audit
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.cli import main
from service.demo import demo_root
from service.domain.judgement import Severity
from tests.builders import copy_demo

torch.set_num_threads(1)
BASE = str(demo_root() / "base")


def adapter(name: str) -> str:
    return str(demo_root() / "adapters" / name)


@pytest.mark.parametrize("name", ["json", "tokens", "official"])
def test_a_sound_adapter_is_merged_and_the_audit_agrees(name: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert main(["merge", BASE, adapter(name), "--output", str(output)]) == 0
    proof = json.loads((output / "merge.json").read_text())["proof"]
    assert proof["merged_difference"] < 1e-3 * proof["scale"]
    assert proof["saved_difference"] < 1e-3 * proof["scale"]
    facts = read_checkpoint(locate(str(output)), {}, merged_from=(locate(BASE), locate(adapter(name))))
    loud = [one for one in audit(facts).findings() if one.severity in (Severity.FATAL, Severity.WARNING)]
    assert [one.message for one in loud] == []
    assert {path.name for path in output.iterdir()} >= {"config.json", "tokenizer.json", "processor_config.json"}
    assert not (output / "adapter_config.json").exists()


def test_the_json_adapter_gives_the_shipped_merged_model(tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert main(["merge", BASE, adapter("json"), "--output", str(output)]) == 0
    ours, shipped = (load_file(one / "model.safetensors") for one in (output, demo_root() / "merged"))
    assert ours.keys() == shipped.keys()
    assert all(torch.allclose(ours[name].float(), one.float(), atol=1e-2) for name, one in shipped.items())


def test_the_type_can_be_chosen(tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert main(["merge", BASE, adapter("json"), "--output", str(output), "--dtype", "float32"]) == 0
    assert {one.dtype for one in load_file(output / "model.safetensors").values()} == {torch.float32}
    assert json.loads((output / "config.json").read_text())["dtype"] == "float32"


def test_a_refused_adapter_is_not_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert main(["merge", BASE, adapter("broken"), "--output", str(output)]) == 1
    assert "<fig>" in capsys.readouterr().out
    assert not output.exists()
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = copy_demo(tmp_path)
    assert main(["merge", BASE, adapter("json"), "--output", str(folders.base)]) == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_nothing_is_written_into_what_is_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = copy_demo(tmp_path)
    output = folders.adapter / "merged"
    assert main(["merge", str(folders.base), str(folders.adapter), "--output", str(output)]) == 2
    assert "it lies inside" in capsys.readouterr().err
    assert not output.exists()


def test_another_user_may_read_what_was_merged_and_the_lock_says_from_what(tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert main(["merge", BASE, adapter("tokens"), "--output", str(output)]) == 0
    assert len({path.stat().st_mode for path in output.iterdir()}) == 1
    assert main(["record", str(output), "--base", BASE]) == 0
    lock = json.loads((output / "checkpoint.lock.json").read_text())
    assert lock["provenance"]["base"] == "base"
    assert lock["provenance"]["merged"]["adapter"]["name"] == "tokens"
    assert lock["provenance"]["producer"].startswith("minicpm-service merge")
    assert lock["vocabulary"]["new_tokens"]["<fig>"] == 761
    assert lock["vocabulary"]["changed"] == ["input", "output"]
    assert main(["audit", str(output)]) == 0
