"""`repair`: the copy is consistent where files can be corrected, the folder stays as it was, and the rest is named."""

import hashlib
import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from service.audit.judging import audit
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.cli import main
from service.demo import demo_root
from tests.builders import Folders, add_token, copy_demo, declare_tie, edited_json, edited_tensors, read_json

torch.set_num_threads(1)
ORIGIN = str(demo_root() / "base")
BASES = [
    *("stop_set_incomplete", "stop_set_absent", "stop_id_is_text", "image_id_differs", "image_id_left_out"),
    *("config_vocab_of_original", "config_vocab_too_large", "tied_but_two_matrices", "tied_levels_disagree"),
    *("names_lost_to_list", "one_name_lost", "picture_files_missing", "patch_size_differs", "vision_tower_lost"),
    *("template_missing", "template_raises", "template_without_markers", "template_marker_unknown", "merges_half_lost"),
    *("decoder_lost", "normalizer_lowers", "turn_end_not_special", "tokenizer_grows_at_load", "hidden_size_wrong"),
    *("base_tensor_missing", "class_writes_no_text", "downsample_mode_in_one_place", "added_tokens_decoder_shifted"),
    "tokenizer_missing",
]
ADAPTERS = [
    *("adapter_wrong_prefix", "adapter_without_prefix", "adapter_wrapped_names", "adapter_targets_shortened"),
    *("saved_modules_deleted_from_config", "adapter_rank_differs", "adapter_type_wrong", "adapter_merges_lost"),
    *("adapter_flags_changed", "adapter_splitting_changed", "saved_modules_partly_listed"),
    *("adapter_of_the_older_layout", "adapter_parameters_lost", "adapter_parameters_with_dropout"),
]
HOPELESS = {
    "adapter_tokenizer_left_behind": "761",
    "lora_nan": "lora",
    "new_tokens_untrained": "<fig>",
    "adapter_truncated": "safetensors",
}


def digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def broken(name: str, to: Path) -> Folders:
    case = importlib.import_module(f"tests.broken.{name}")
    folders = copy_demo(to, case.EXPECTED.adapter)
    case.make(folders)
    return folders


@pytest.mark.parametrize("name", BASES)
def test_a_base_is_repaired_from_its_origin(name: str, tmp_path: Path) -> None:
    folders, output = broken(name, tmp_path), tmp_path / "out"
    before = digest(folders.base)
    assert main(["repair", str(folders.base), "--base", ORIGIN, "--output", str(output)]) == 0
    assert digest(folders.base) == before
    assert main(["audit", str(output)]) == 0
    record = read_json(output / "repair.json")
    assert record["after"] == "consistent"
    assert all(one["reason"] for one in record["changes"])
    assert record["changes"]


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_is_repaired_for_its_base(name: str, tmp_path: Path) -> None:
    folders, output = broken(name, tmp_path), tmp_path / "out"
    before = digest(folders.adapter)
    assert main(["repair", str(folders.adapter), "--base", ORIGIN, "--output", str(output)]) == 0
    assert digest(folders.adapter) == before
    assert main(["audit", ORIGIN, "--adapter", f"a={output}"]) == 0
    assert read_json(output / "repair.json")["changes"]


@pytest.mark.parametrize("name", HOPELESS)
def test_what_no_file_can_correct_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders, output = broken(name, tmp_path), tmp_path / "out"
    assert main(["repair", str(folders.adapter), "--base", ORIGIN, "--output", str(output)]) == 1
    said = capsys.readouterr().out
    assert HOPELESS[name] in said
    if name == "new_tokens_untrained":
        assert 'trainable_token_indices={"embed_tokens": [761, 762, 763, 764, 765, 766], "lm_head": [761' in said
        assert "LLaMA-Factory" in said


def test_stop_ids_are_completed_without_an_origin(tmp_path: Path) -> None:
    folders, output = broken("stop_set_incomplete", tmp_path), tmp_path / "out"
    assert main(["repair", str(folders.base), "--output", str(output)]) == 0
    assert 750 in read_json(output / "generation_config.json")["eos_token_id"]


def test_new_tokens_keep_their_trained_ids(tmp_path: Path) -> None:
    folders, output = copy_demo(tmp_path, "tokens"), tmp_path / "out"
    with edited_json(folders.adapter / "tokenizer.json") as document:
        document["pre_tokenizer"] = None
    assert main(["repair", str(folders.adapter), "--base", ORIGIN, "--output", str(output)]) == 0
    added = {one["content"]: one["id"] for one in read_json(output / "tokenizer.json")["added_tokens"]}
    assert added["<fig>"] == 761
    assert len(added) == 19


@pytest.mark.parametrize("name", ["official", "tokens"])
def test_folding_splits_an_adapter_without_changing_an_answer(name: str, tmp_path: Path) -> None:
    from service.engine.adapters import mount
    from service.engine.families.family import LoadOptions
    from service.engine.families.minicpmv4_6 import MiniCPMV46
    from service.engine.probing import Probe, largest_difference

    output = tmp_path / "out"
    adapter = demo_root() / "adapters" / name
    assert main(["repair", str(adapter), "--base", ORIGIN, "--fold", "--output", str(output)]) == 0
    assert read_json(output / "adapter" / "adapter_config.json")["modules_to_save"] is None
    family, options = MiniCPMV46(), LoadOptions(torch.device("cpu"), torch.float32, None, is_code_trusted=False)
    logits = []
    for base, one in ((demo_root() / "base", adapter), (output / "base", output / "adapter")):
        model, _ = family.load_model(base, options)
        encoder = family.load_encoder(demo_root() / "base", frozenset(), options, model)
        logits.append(Probe(family, encoder, options.device).logits(mount(model, one).model))
    assert largest_difference(*logits) < 0.05 * float(logits[0].abs().max())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{adapter}", "--output", "{new}"], "add --base BASE"),
        (["{base}", "--output", "{base}"], "not an empty folder"),
        (["/no/such", "--output", "{new}"], "neither a folder nor a hub id"),
        (["{adapter}", "--fold", "--output", "{new}"], "add --base BASE"),
        (["{base}", "--output", "{base}/inside"], "it lies inside"),
        (["{adapter}", "--base", "{base}", "--output", "{base}/inside"], "it lies inside"),
        (["{adapter}", "--base", "{adapter}", "--output", "{new}"], "is an adapter"),
        (["{base}", "--base", "{base}", "--fold", "--output", "{new}"], "--fold is for adapters"),
        (["{base}", "--initialise-rows", "--output", "{new}"], "--initialise-rows is for adapters"),
    ],
)
def test_what_cannot_run_says_why_and_leaves_nothing(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = copy_demo(tmp_path / "in")
    new = tmp_path / "out" / "new"
    filled = [one.format(base=folders.base, adapter=folders.adapter, new=new) for one in arguments]
    assert main(["repair", *filled]) == 2
    assert said in capsys.readouterr().err
    assert not new.exists()
    assert not (folders.base / "inside").exists()


def test_a_sound_folder_is_copied_and_nothing_is_claimed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert main(["repair", ORIGIN, "--output", str(output)]) == 0
    assert "nothing had to be corrected" in capsys.readouterr().out
    assert json.loads((output / "repair.json").read_text())["changes"] == []


def test_tensors_are_renamed_without_changing_a_byte(tmp_path: Path) -> None:

    from service.repair.headers import rename_tensors

    folders = copy_demo(tmp_path)
    shutil.copy(folders.adapter_weights, tmp_path / "old.safetensors")
    rename_tensors(folders.adapter_weights, lambda name: "x." + name)
    before, after = load_file(tmp_path / "old.safetensors"), load_file(folders.adapter_weights)
    assert after.keys() == {"x." + name for name in before}
    assert all(torch.equal(after["x." + name], one) for name, one in before.items())


def test_an_ambiguous_renaming_is_not_guessed(tmp_path: Path) -> None:
    folders, output = broken("adapter_of_deeper_base", tmp_path), tmp_path / "out"
    assert main(["repair", str(folders.adapter), "--base", ORIGIN, "--output", str(output)]) == 1


def test_untrained_rows_get_a_start_and_stay_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders, output = broken("new_tokens_untrained", tmp_path), tmp_path / "out"
    arguments = ["repair", str(folders.adapter), "--base", ORIGIN, "--initialise-rows", "--output", str(output)]
    assert main(arguments) == 0
    assert read_json(output / "repair.json")["initialised_rows"] == [761, 762, 763, 764, 765, 766]
    assert "a start for training, not trained" in capsys.readouterr().out
    (output / "repair.json").unlink()  # which nobody copies along
    assert main(["audit", ORIGIN, "--adapter", f"a={output}"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the input rows of <fig> (id 761), </fig> (id 762)" in said
    assert "initialised, as by repair, and not trained" in said
    assert "all with trained rows" not in said
    assert main(["audit", ORIGIN, "--adapter", f"a={output}", "--policy", "strict"]) == 1


def test_a_start_leaves_output_rows_as_they_are(tmp_path: Path) -> None:
    folders, output = broken("new_tokens_untrained", tmp_path), tmp_path / "out"
    repaired(folders.adapter, output, "--initialise-rows")
    assert read_json(output / "adapter_config.json")["trainable_token_indices"] == {"embed_tokens": [*range(761, 767)]}
    before, after = load_file(folders.adapter_weights), load_file(output / "adapter_model.safetensors")
    assert [name.rpartition(".")[0] for name in after.keys() - before.keys()] == [
        "base_model.model.model.language_model.embed_tokens.token_adapter"
    ]
    assert all(torch.equal(after[name], one) for name, one in before.items())


def test_started_rows_count_as_undertrained(tmp_path: Path) -> None:
    folders, output = broken("new_tokens_untrained", tmp_path), tmp_path / "out"
    repaired(folders.adapter, output, "--initialise-rows")
    report = audit(read_checkpoint(locate(ORIGIN), {"a": locate(str(output))}))
    assert sorted(report.subjects["adapter:a"].undertrained) == [761, 762, 763, 764, 765, 766]


def test_rows_that_were_trained_from_a_start_are_trained(tmp_path: Path) -> None:
    folders, output = broken("new_tokens_untrained", tmp_path), tmp_path / "out"
    repaired(folders.adapter, output, "--initialise-rows")
    with edited_tensors(output / "adapter_model.safetensors") as tensors:
        (key,) = [name for name in tensors if "token_adapter" in name]
        noise = torch.randn(tensors[key].shape, generator=torch.Generator().manual_seed(0))
        tensors[key] += 0.1 * noise * tensors[key].norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)
    report = audit(read_checkpoint(locate(ORIGIN), {"a": locate(str(output))}))
    assert "initialised" not in " ".join(one.message for one in report.findings())


def test_tied_matrices_get_no_start_and_are_told_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders, output = broken("new_tokens_untrained", tmp_path), tmp_path / "out"
    with edited_tensors(folders.base / "model.safetensors") as tensors:
        del tensors["lm_head.weight"]
    declare_tie(folders, is_tied=True)
    arguments = ["repair", str(folders.adapter), "--base", str(folders.base), "--output", str(output)]
    assert main([*arguments, "--initialise-rows"]) == 1
    said = capsys.readouterr().out
    assert "the untrained rows got no start: input and output row are one in this base" in said
    assert "their rows are not in the adapter" in said
    assert not read_json(output / "adapter_config.json").get("trainable_token_indices")


def test_repair_offers_a_start_where_rows_are_untrained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = broken("new_tokens_untrained", tmp_path)
    repaired(folders.adapter, tmp_path / "1")
    assert "--initialise-rows gives the untrained input rows a start for training" in capsys.readouterr().out
    repaired(folders.adapter, tmp_path / "2", "--initialise-rows")
    assert "--initialise-rows" not in capsys.readouterr().out


def repaired(folder: Path, output: Path, *more: str) -> tuple[int, dict[str, Any]]:
    status = main(["repair", str(folder), "--base", ORIGIN, "--output", str(output), *more])
    return status, read_json(output / "repair.json")


def test_rows_of_new_tokens_are_listed_again(tmp_path: Path) -> None:
    folders, output = copy_demo(tmp_path, "tokens"), tmp_path / "out"
    with edited_json(folders.adapter / "adapter_config.json") as config:
        trained, config["trainable_token_indices"] = config["trainable_token_indices"], None
    status, _ = repaired(folders.adapter, output)
    assert status == 0
    assert read_json(output / "adapter_config.json")["trainable_token_indices"] == trained


def test_rows_are_not_listed_for_other_than_the_new_tokens(tmp_path: Path) -> None:
    folders, output = copy_demo(tmp_path, "tokens"), tmp_path / "out"
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["trainable_token_indices"] = None
    add_token(folders.adapter, "<seventh>")
    status, record = repaired(folders.adapter, output)
    assert status == 1
    assert "trainable_token_indices" not in {one["what"] for one in record["changes"]}


def test_what_was_tuned_and_lost_is_not_replaced_by_the_untuned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = tmp_path / "merged", tmp_path / "out"
    shutil.copytree(demo_root() / "merged", folder)
    with edited_tensors(folder / "model.safetensors") as tensors:
        del tensors["model.language_model.layers.1.mlp.down_proj.weight"]
        del tensors["model.language_model.layers.1.input_layernorm.weight"]
    status, record = repaired(folder, output)
    assert status == 1
    assert "layers.1.mlp.down_proj" in record["declined"][0]
    assert [one["what"] for one in record["changes"]] == ["model.language_model.layers.1.input_layernorm.weight"]
    assert "not corrected: 1 lost tensor(s) were tuned" in capsys.readouterr().out


def test_weights_that_cannot_be_read_are_not_replaced_by_the_untuned(tmp_path: Path) -> None:
    folders, output = copy_demo(tmp_path), tmp_path / "out"
    folders.base_weights.write_bytes(folders.base_weights.read_bytes()[:-1000])
    status, record = repaired(folders.base, output)
    assert status == 1
    assert record["changes"] == []
    assert sorted(path.name for path in output.glob("*.safetensors")) == ["model.safetensors"]


@pytest.mark.parametrize("name", ["generation_config.json", "config.json", "tokenizer_config.json", "tokenizer.json"])
def test_a_file_that_is_no_json_is_restored(name: str, tmp_path: Path) -> None:
    folders, output = copy_demo(tmp_path), tmp_path / "out"
    (folders.base / name).write_text("{oops")
    status, record = repaired(folders.base, output)
    assert status == 0
    assert {one["file"] for one in record["changes"]} == {name}


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_without_an_origin_a_file_that_is_no_json_is_no_crash(name: str, tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    (folders.base / name).write_text("{oops")
    assert main(["repair", str(folders.base), "--output", str(tmp_path / "out")]) in (0, 1)


@pytest.mark.parametrize("content", [None, "{oops"])
def test_an_adapter_without_a_readable_config_stays_an_adapter(content: str | None, tmp_path: Path) -> None:
    folders, output = copy_demo(tmp_path), tmp_path / "out"
    (folders.adapter / "adapter_config.json").unlink()
    if content:
        (folders.adapter / "adapter_config.json").write_text(content)
    status, record = repaired(folders.adapter, output)
    assert status == 1
    assert record["changes"] == []
    assert "adapter_config.json" in record["remaining"][0]


def test_a_type_that_there_is_not_is_not_kept(tmp_path: Path) -> None:
    folders, output = copy_demo(tmp_path), tmp_path / "out"
    with edited_json(folders.base / "config.json") as config:
        config["dtype"] = "float13"
    status, record = repaired(folders.base, output)
    assert status == 0
    assert [(one["what"], one["old"], one["new"]) for one in record["changes"]] == [("dtype", "float13", "bfloat16")]


def test_a_restored_setting_is_named_with_both_values(tmp_path: Path) -> None:
    folders, output = copy_demo(tmp_path), tmp_path / "out"
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["hidden_size"] = 64
    _, record = repaired(folders.base, output)
    assert ("text_config.hidden_size", 64, 128) in {(one["what"], one["old"], one["new"]) for one in record["changes"]}


def test_a_read_only_folder_is_repaired(tmp_path: Path) -> None:
    folders, output = broken("stop_set_incomplete", tmp_path), tmp_path / "out"
    for path in (*folders.base.iterdir(), folders.base):
        path.chmod(0o555 if path.is_dir() else 0o444)
    status, _ = repaired(folders.base, output)
    folders.base.chmod(0o755)
    assert status == 0
    assert output.stat().st_mode & 0o200


def test_another_user_may_read_what_was_written(tmp_path: Path) -> None:
    folders, output = broken("new_tokens_untrained", tmp_path), tmp_path / "out"
    repaired(folders.adapter, output, "--initialise-rows")
    modes = {path.stat().st_mode & 0o777 for path in output.iterdir()}
    assert modes == {output.joinpath("repair.json").stat().st_mode & 0o777}


def test_a_second_repair_keeps_the_record_of_the_first(tmp_path: Path) -> None:
    folders, first, second = broken("stop_set_incomplete", tmp_path), tmp_path / "1", tmp_path / "2"
    _, before = repaired(folders.base, first)
    status, record = repaired(first, second)
    assert status == 0
    assert record["changes"] == []
    assert record["earlier"][0]["changes"] == before["changes"]


def test_many_changes_of_one_kind_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders, output = broken("adapter_wrapped_names", tmp_path), tmp_path / "out"
    _, record = repaired(folders.adapter, output)
    said = capsys.readouterr().out
    assert len(record["changes"]) > 20
    assert said.count("\n") < 12
    assert "more likewise, see repair.json" in said


def test_a_fold_is_recorded_and_carries_no_lock(tmp_path: Path) -> None:
    folders, output = copy_demo(tmp_path, "official"), tmp_path / "out"
    assert main(["record", str(folders.base)]) == 0
    base, adapter = str(folders.base), str(folders.adapter)
    assert main(["repair", adapter, "--base", base, "--fold", "--output", str(output)]) == 0
    assert len(read_json(output / "repair.json")["changes"]) == 24
    assert not (output / "base" / "checkpoint.lock.json").exists()


def test_a_warning_that_remains_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders, output = broken("new_tokens_untrained", tmp_path), tmp_path / "out"
    repaired(folders.adapter, output, "--initialise-rows")
    assert f"warning, adapter:{folders.adapter.name}, trained_rows" in capsys.readouterr().out
