"""`repair --fold` says where the two folders are, how they are served and what was proved, and refuses another base."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from service.cli import main
from service.demo import demo_root
from service.errors import CheckpointUnreadable
from service.repair.folded import prove_fold
from service.settings import Settings
from tests.builders import PREFIX, Folders, edited_tensors, read_json

RESAMPLER = "resampler.attn.in_proj_weight"


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    shutil.copytree(demo_root() / "minicpmv4_5" / "base", tmp_path / "base")
    shutil.copytree(demo_root() / "minicpmv4_5" / "adapters" / "official", tmp_path / "official")
    return Folders(tmp_path / "base", tmp_path / "official")


def fold(adapter: Path, base: Path, output: Path) -> int:
    return main(["repair", str(adapter), "--base", str(base), "--fold", "--output", str(output)])


def test_it_names_both_folders_and_the_settings_that_serve_them(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a folder"
    assert fold(folders.adapter, folders.base, output) == 0
    said = capsys.readouterr().out
    assert f"new base:   {output}/base\n" in said
    assert f"plain LoRA: {output}/adapter\n" in said
    line = next(one for one in said.splitlines() if one.startswith("serve both: "))
    model, adapters, *verb = shlex.split(line.removeprefix("serve both: "))
    assert verb == ["minicpm-service", "serve"]
    given = Settings(
        model=model.removeprefix("MINICPM_MODEL="), adapters=json.loads(adapters.removeprefix("MINICPM_ADAPTERS="))
    )
    assert (given.model, given.adapters) == (f"{output}/base", {"official": f"{output}/adapter"})
    assert "--trust-remote-code --enable-lora --max-lora-rank 64 --lora-modules" in said


def test_the_plain_adapter_names_the_new_base(folders: Folders, tmp_path: Path) -> None:
    assert fold(folders.adapter, folders.base, tmp_path / "out") == 0
    config = read_json(tmp_path / "out" / "adapter" / "adapter_config.json")
    assert config["base_model_name_or_path"] == str(tmp_path / "out" / "base")


def test_it_says_how_far_the_type_of_the_base_moves_values(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with edited_tensors(folders.base_weights) as base, edited_tensors(folders.adapter_weights) as tensors:
        base[RESAMPLER] = base[RESAMPLER].bfloat16()
        tensors[PREFIX + RESAMPLER] = tensors[PREFIX + RESAMPLER].float() * 1.0001
    assert fold(folders.adapter, folders.base, tmp_path / "out") == 0
    assert "hold the adapter's values (moved by " in capsys.readouterr().out


@pytest.mark.parametrize("part", ["base/model", "adapter/adapter_model"])
def test_what_did_not_come_out_as_it_was_meant_is_refused(part: str, folders: Folders, tmp_path: Path) -> None:
    assert fold(folders.adapter, folders.base, tmp_path / "out") == 0
    prove_fold(folders.base, folders.adapter, {}, tmp_path / "out")
    with edited_tensors(tmp_path / "out" / f"{part}.safetensors") as tensors:
        tensors[max(tensors)] += 1
    with pytest.raises(CheckpointUnreadable, match="did not come out"):
        prove_fold(folders.base, folders.adapter, {}, tmp_path / "out")


def narrow_resampler(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[PREFIX + RESAMPLER] = torch.zeros(4, 4)


def factors_alone(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if ".lora_" not in one]:
            del tensors[name]


def names_of_another_base(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "llm.model." in one]:
            tensors[name.replace("llm.model.", "model.language_model.")] = tensors.pop(name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (names_of_another_base, "modules are not in this base, first model.language_model."),
        (narrow_resampler, "resampler.attn.in_proj_weight is [4, 4] in the adapter"),
        (factors_alone, "nothing to fold: it is a plain LoRA"),
    ],
)
def test_a_wrong_base_and_a_plain_adapter_are_refused_with_the_reason(
    change: Callable[[Folders], None],
    said: str,
    folders: Folders,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(folders)
    assert fold(folders.adapter, folders.base, tmp_path / "out") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
