"""A lost adapter_config.json is rebuilt from the tensors; what they cannot tell is asked for or said."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from service.audit.targeting import is_targeted
from service.cli import main
from service.demo import demo_root
from tests.builders import copy_demo, edited_tensors, read_json, write_json

ORIGIN = str(demo_root() / "base")
CONFIG = "adapter_config.json"


def lost(to: Path, adapter: str) -> Path:
    folder = copy_demo(to, adapter).adapter
    (folder / CONFIG).unlink()
    return folder


def repair(folder: Path, output: Path, *more: str) -> int:
    return main(["repair", str(folder), "--base", ORIGIN, "--output", str(output), *more])


@pytest.mark.parametrize("adapter", ["json", "tokens", "official"])
def test_it_asks_for_what_training_asked_for(adapter: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, output = lost(tmp_path, adapter), tmp_path / "out"
    trained = read_json(demo_root() / "adapters" / adapter / CONFIG)
    assert repair(folder, output, "--lora-alpha", str(trained["lora_alpha"])) == 0
    config = read_json(output / CONFIG)
    assert (config["r"], config["lora_alpha"]) == (trained["r"], trained["lora_alpha"])
    assert config["trainable_token_indices"] == trained["trainable_token_indices"]
    assert (config["modules_to_save"] is None) == (trained["modules_to_save"] is None)
    keys = load_file(output / "adapter_model.safetensors")
    modules = {one.removeprefix("base_model.model.").partition(".lora_")[0] for one in keys if ".lora_" in one}
    assert all(is_targeted(config, one) for one in modules)
    assert main(["audit", ORIGIN, "--adapter", f"a={output}"]) == 0
    said = capsys.readouterr().out
    assert "uncertain: use_rslora" in said
    assert "lora_alpha" in read_json(output / "repair.json")["changes"][0]["new"]


def test_without_alpha_nothing_is_written_and_the_rest_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert repair(lost(tmp_path, "json"), output) == 1
    said = capsys.readouterr().out
    assert not (output / CONFIG).exists()
    assert '"lora_alpha": "<not in the tensors: fill in>"' in said
    assert '"r": 8' in said
    assert "run again with --lora-alpha N" in said


def test_alpha_is_taken_from_the_trainer_s_arguments(tmp_path: Path) -> None:
    folder, output = lost(tmp_path, "json"), tmp_path / "out"
    write_json(folder / "args.json", {"lora_alpha": 16})
    assert repair(folder, output) == 0
    assert read_json(output / CONFIG)["lora_alpha"] == 16
    assert "args.json" in read_json(output / "repair.json")["changes"][0]["new"]


def test_a_rank_of_its_own_becomes_a_pattern(tmp_path: Path) -> None:
    folder, output = lost(tmp_path, "json"), tmp_path / "out"
    with edited_tensors(folder / "adapter_model.safetensors") as tensors:
        for name in [one for one in tensors if "layers.3.self_attn.q_proj" in one]:
            tensors[name] = tensors[name][:4] if ".lora_A" in name else tensors[name][:, :4]
    assert repair(folder, output, "--lora-alpha", "16") == 0
    assert list(read_json(output / CONFIG)["rank_pattern"].values()) == [4]


def test_rows_whose_ids_nobody_knows_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, output = lost(tmp_path, "tokens"), tmp_path / "out"
    (folder / "tokenizer.json").unlink()
    assert repair(folder, output, "--lora-alpha", "16") == 1
    assert "the tokenizer adds 0 token(s), so their ids are not known" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["0", "-1", "nan", "x"])
def test_an_alpha_that_scales_nothing_is_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        repair(lost(tmp_path, "json"), tmp_path / "out", f"--lora-alpha={value}")


def test_alpha_is_refused_beside_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copy_demo(tmp_path).adapter
    assert repair(folder, tmp_path / "out", "--lora-alpha", "16") == 2
    assert "edit it there" in capsys.readouterr().err
