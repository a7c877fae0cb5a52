"""A merged folder against origin plus adapter: every way in which merges fail is found, and no edit of a sound one."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from merging_by_peft import merge_in_float32, peft_merge
from pairs import Pair, copy_pair, only
from safetensors.torch import load_file, save_file

from tests.builders import (
    EMBEDDING,
    HEAD,
    edited_json,
    edited_tensors,
    read_json,
    rename_tensors,
    shard,
)

Edit = Callable[[Pair], None]


def cast(dtype: torch.dtype) -> Edit:
    def make(pair: Pair) -> None:
        with edited_tensors(pair.tuned_weights) as tensors:
            for name, one in tensors.items():
                tensors[name] = one.to(dtype)

    return make


def names_of_the_other_layout(pair: Pair) -> None:
    rename_tensors(pair.tuned_weights, lambda name: name.removeprefix("model."))


def adapter_of_the_other_layout(pair: Pair) -> None:
    rename_tensors(pair.adapter_weights, lambda name: name.replace(".model.language_model.", ".language_model.model."))


def rows_padded(pair: Pair) -> None:
    with edited_tensors(pair.tuned_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            tensors[name] = torch.cat([tensors[name], tensors[name].new_zeros(64, tensors[name].shape[1])])
    with edited_json(pair.tuned / "config.json") as config:
        config["text_config"]["vocab_size"] += 64


def rows_cut(pair: Pair) -> None:
    """Keep no row behind the last token's; merges of adapters that add tokens are resized so."""
    count = max(one["id"] for one in read_json(pair.tuned / "tokenizer.json")["added_tokens"]) + 1
    with edited_tensors(pair.tuned_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            tensors[name] = tensors[name][:count].clone()
    with edited_json(pair.tuned / "config.json") as config:
        config["text_config"]["vocab_size"] = count


HARMLESS: dict[str, Edit] = {
    "in_float32": cast(torch.float32),
    "in_float16": cast(torch.float16),
    "in_shards": lambda pair: shard(pair.tuned, 3),
    "names_of_the_other_layout": names_of_the_other_layout,
    "adapter_of_the_other_layout": adapter_of_the_other_layout,
    "rows_padded": rows_padded,
    "rows_cut": rows_cut,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_difference_of_a_merge_is_not_flagged(name: str, tmp_path: Path) -> None:
    pair = copy_pair(tmp_path)
    HARMLESS[name](pair)
    assert [(one.check, one.message) for one in pair.loud(is_merge=True)] == []


def update(pair: Pair) -> dict[str, torch.Tensor]:
    """What the demo's merge added, by tensor."""
    before, after = load_file(pair.origin_weights), load_file(pair.tuned_weights)
    return {
        name: after[name].float() - one.float() for name, one in before.items() if not torch.equal(after[name], one)
    }


def scaled(factor: float, part: str = "") -> Edit:
    def make(pair: Pair) -> None:
        found = update(pair)
        before = load_file(pair.origin_weights)
        with edited_tensors(pair.tuned_weights) as tensors:
            for name in [one for one in found if part in one]:
                tensors[name] = before[name].float() + factor * found[name]

    return make


def another_adapter(pair: Pair) -> None:
    generator = torch.Generator().manual_seed(3)
    with edited_tensors(pair.tuned_weights) as tensors:
        for name, one in update(pair).items():
            noise = torch.randn(one.shape, generator=generator)
            tensors[name] = tensors[name].float() + noise * one.norm() / noise.norm()


def nan_in_a_merged_tensor(pair: Pair) -> None:
    with edited_tensors(pair.tuned_weights) as tensors:
        tensors[next(one for one in tensors if one.endswith("down_proj.weight"))][0, 0] = float("nan")


def another_tensor_changed(pair: Pair) -> None:
    with edited_tensors(pair.tuned_weights) as tensors:
        tensors[next(one for one in tensors if one.endswith("fc1.weight"))] *= 1.1


def one_row_of_the_embeddings_changed(pair: Pair) -> None:
    with edited_tensors(pair.tuned_weights) as tensors:
        tensors[EMBEDDING][100] += 0.05


def swallowed(pair: Pair) -> None:
    """An update a thousandth as large, merged in bfloat16."""
    with edited_tensors(pair.adapter_weights) as tensors:
        for name in [one for one in tensors if "lora_B" in one]:
            tensors[name] = tensors[name].float() * 1e-3
    before = load_file(pair.origin_weights)
    with edited_tensors(pair.tuned_weights) as tensors:
        for name, one in update(pair).items():
            tensors[name] = (before[name].float() + 1e-3 * one).bfloat16()


def alpha_edited(pair: Pair) -> None:
    with edited_json(pair.adapter / "adapter_config.json") as config:
        config["lora_alpha"] *= 4


def rslora_not_read(pair: Pair) -> None:
    with edited_json(pair.adapter / "adapter_config.json") as config:
        config["use_rslora"] = True


def adapter_of_a_wider_model(pair: Pair) -> None:
    rename_tensors(pair.adapter_weights, lambda name: name.replace("layers.3.", "layers.9."))


def adapter_unreadable(pair: Pair) -> None:
    pair.adapter_weights.write_bytes(b"x")


def rows_and_columns_exchanged(pair: Pair) -> None:
    with edited_json(pair.adapter / "adapter_config.json") as config:
        config["fan_in_fan_out"] = True


BROKEN: dict[str, tuple[Edit, str]] = {
    "rows_and_columns_exchanged": (rows_and_columns_exchanged, "has the shape"),
    "merged_twice": (scaled(2), "it was merged twice"),
    "half_merged": (scaled(0.5), "0.5 times"),
    "merged_backwards": (scaled(-1), "-1 times"),
    "partly_merged": (scaled(0, "mlp"), "only partly merged: 12 of 28"),
    "one_module_merged_twice": (scaled(2, "layers.3.self_attn.q_proj"), "1 of 28"),
    "alpha_edited": (alpha_edited, "0.25 times"),
    "rslora_not_read": (rslora_not_read, "0.354 times"),
    "another_adapter": (another_adapter, "not origin plus update"),
    "nan_in_a_merged_tensor": (nan_in_a_merged_tensor, "NaN"),
    "another_tensor_changed": (another_tensor_changed, "does not touch"),
    "one_row_of_the_embeddings_changed": (one_row_of_the_embeddings_changed, "embed_tokens"),
    "swallowed": (swallowed, "rounding swallowed"),
    "adapter_of_a_wider_model": (adapter_of_a_wider_model, "no counterpart"),
    "adapter_unreadable": (adapter_unreadable, "cannot be read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_merge_is_found_by_this_check(name: str, tmp_path: Path) -> None:
    make, named = BROKEN[name]
    pair = copy_pair(tmp_path)
    make(pair)
    found = [one for one in pair.loud(is_merge=True) if one.check != "origin"]
    check = "finite_weights" if name == "nan_in_a_merged_tensor" else "merge"
    assert any(named in message for message in only(found, check)), [one.message for one in found]


def test_modules_to_save_that_were_not_taken_over_are_found(tmp_path: Path) -> None:
    pair = copy_pair(tmp_path)
    peft_merge(pair, modules_to_save=["merger"], target_modules=["up_proj"])
    before = load_file(pair.origin_weights)
    with edited_tensors(pair.tuned_weights) as tensors:
        for name in [one for one in tensors if one.startswith("model.merger.")]:
            tensors[name] = before[name]
    (message,) = only(pair.loud(is_merge=True), "merge")
    assert "only partly merged" in message
    assert "merger" in message


def test_rows_of_new_tokens_that_were_not_taken_over_are_found(tmp_path: Path) -> None:
    pair = copy_pair(tmp_path)
    with edited_tensors(pair.adapter_weights) as tensors:
        rows = load_file(pair.origin_weights)[EMBEDDING].float()
        tensors[f"base_model.model.{EMBEDDING}"] = torch.cat([rows, torch.ones(8, rows.shape[1])])
    with edited_json(pair.adapter / "adapter_config.json") as config:
        config["modules_to_save"] = ["embed_tokens"]
    (message,) = only(pair.loud(is_merge=True), "merge")
    assert EMBEDDING in message
    assert "840" in message


def test_an_adapter_of_a_kind_that_is_not_computed_is_named_and_not_judged(tmp_path: Path) -> None:
    pair = copy_pair(tmp_path)
    with edited_json(pair.adapter / "adapter_config.json") as config:
        config["init_lora_weights"] = "pissa"
    (message,) = only_skipped(pair)
    assert "pissa" in message
    shutil.copyfile(pair.origin_weights, pair.tuned_weights)
    (message,) = only(pair.loud(is_merge=True), "merge")
    assert "none of the 28 module(s)" in message


def only_skipped(pair: Pair) -> list[str]:
    found = pair.loud(is_merge=True)
    assert {(one.check, one.severity.value) for one in found} == {("merge", "skipped")}
    return [one.message for one in found]


def test_a_tied_base_whose_head_was_trained_and_untied_is_sound(tmp_path: Path) -> None:
    pair = copy_pair(tmp_path)
    for folder in (pair.origin, pair.tuned):
        with edited_json(folder / "config.json") as config:
            config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = folder == pair.origin
    with edited_tensors(pair.origin_weights) as tensors:
        del tensors[HEAD]
    trained = load_file(pair.origin_weights)[EMBEDDING] * 1.5
    with edited_tensors(pair.tuned_weights) as tensors:
        tensors[HEAD] = trained
    with edited_tensors(pair.adapter_weights) as tensors:
        tensors[f"base_model.model.{HEAD}"] = trained
    with edited_json(pair.adapter / "adapter_config.json") as config:
        config["modules_to_save"] = ["lm_head"]
    assert [(one.check, one.message) for one in pair.loud(is_merge=True)] == []
    with edited_tensors(pair.tuned_weights) as tensors:
        tensors[HEAD] = load_file(pair.origin_weights)[EMBEDDING].clone()
    assert any("lm_head" in message for message in only(pair.loud(is_merge=True), "merge"))


def test_a_hostile_adapter_is_a_finding(tmp_path: Path) -> None:
    pair = copy_pair(tmp_path)
    for document in (
        "[]",
        '{"r": 0, "lora_alpha": "x", "rank_pattern": {"(": 1}}',
        '{"alpha_pattern": [1], "r": null}',
    ):
        (pair.adapter / "adapter_config.json").write_text(document)
        assert {one.check for one in pair.loud(is_merge=True)} == {"merge"}
    save_file({"base_model.model.x.lora_A.weight": torch.ones(2)}, pair.adapter_weights)
    assert {one.check for one in pair.loud(is_merge=True)} >= {"merge"}


def test_rows_that_the_adapter_trained_must_be_in_the_merged_folder(tmp_path: Path) -> None:
    pair = copy_pair(tmp_path, adapter="tokens")
    merge_in_float32(pair, torch.bfloat16)
    before = load_file(pair.origin_weights)
    with edited_tensors(pair.tuned_weights) as tensors:
        tensors |= {name: before[name] for name in (EMBEDDING, HEAD)}
    found = pair.loud(is_merge=True)
    assert {one.check for one in found} == {"merge", "trained_rows"}
    message = next(one.message for one in found if one.check == "merge")
    assert "partly merged: 2 of" in message
    assert "trained for 6 new token(s) are lost, first <fig> (id 761)" in message


def test_a_merge_in_the_base_of_another_adapter_is_not_taken_for_a_rounded_one(tmp_path: Path) -> None:
    pair = copy_pair(tmp_path, adapter="tokens")
    shutil.copyfile(pair.origin / "tokenizer.json", pair.adapter / "tokenizer.json")
    facts = pair.facts(is_merge=True)
    assert facts.merge is not None
    assert facts.merge.rounded == {}
    assert not any(one.base_bits or one.stored_bits for one in facts.merge.targets.values())
