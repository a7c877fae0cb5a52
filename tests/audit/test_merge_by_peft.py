"""What PEFT itself merges is sound, whatever the adapter and the type; and a folder that lacks it is not."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from merging_by_peft import PROJECTIONS, merge_in_float32, peft_merge, take_tokenizer_over
from pairs import copy_pair, only

from tests.builders import swap_last_tokens

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "patterns": {"rank_pattern": {"q_proj": 2, "layers.1.*up_proj": 3}, "alpha_pattern": {"k_proj": 32}},
    "dora": {"use_dora": True},
    "embeddings": {"target_modules": [*PROJECTIONS, "embed_tokens", "lm_head"]},
    "saved": {"modules_to_save": ["lm_head", "merger"], "target_modules": ["up_proj", "in_proj_qkv"]},
    "tokens": {"trainable_token_indices": {"embed_tokens": [5, 700], "lm_head": [5, 700]}},
    "biases": {"bias": "all", "target_modules": ["fc1", "fc2"]},
    "lora bias": {"lora_bias": True, "target_modules": ["fc1", "fc2"]},
    "parameters": {"target_modules": ["q_proj"], "target_parameters": ["up_proj.weight", "embed_tokens.weight"]},
    "pictures": {"target_modules": ["patch_embedding", "out_proj"]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_peft_merges_is_sound(kind: str, tmp_path: Path) -> None:
    pair = copy_pair(tmp_path)
    peft_merge(pair, save_as=torch.bfloat16 if kind == "plain" else None, **KINDS[kind])
    facts = pair.facts(is_merge=True)
    assert facts.merge is not None
    assert (facts.merge.uncomputed, facts.merge.unmatched) == ({}, ())
    assert len(facts.merge.targets) >= 3
    assert pair.loud(is_merge=True) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_without_the_update_is_found_for_every_kind_of_adapter(kind: str, tmp_path: Path) -> None:
    pair = copy_pair(tmp_path)
    peft_merge(pair, **KINDS[kind])
    for path in pair.tuned.iterdir():
        path.unlink()
    shutil.copytree(pair.origin, pair.tuned, dirs_exist_ok=True)
    (message, *_) = only(pair.loud(is_merge=True), "merge")
    assert "nothing was merged" in message


@pytest.mark.parametrize("adapter", ["json", "tokens", "official"])
def test_the_demo_s_adapters_as_peft_merges_them_are_sound(adapter: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    pair = copy_pair(tmp_path, adapter=adapter)
    model = AutoModelForImageTextToText.from_pretrained(pair.origin, dtype=torch.bfloat16)
    merged = PeftModel.from_pretrained(model, pair.adapter).merge_and_unload()
    pair.tuned_weights.unlink()
    merged.save_pretrained(pair.tuned)
    take_tokenizer_over(pair)
    assert [(one.check, one.message) for one in pair.loud(is_merge=True)] == []


@pytest.mark.parametrize("adapter", ["json", "tokens", "official"])
def test_the_demo_s_adapters_merged_in_float32_and_stored_in_float16_are_sound(adapter: str, tmp_path: Path) -> None:
    pair = copy_pair(tmp_path, adapter=adapter)
    merge_in_float32(pair, torch.float16)
    assert [(one.check, one.message) for one in pair.loud(is_merge=True)] == []


def test_tokens_that_the_adapter_brought_must_be_in_the_merged_tokenizer(tmp_path: Path) -> None:
    pair = copy_pair(tmp_path, adapter="tokens")
    merge_in_float32(pair, torch.bfloat16)
    shutil.copyfile(pair.origin / "tokenizer.json", pair.tuned / "tokenizer.json")
    (message,) = only(pair.loud(is_merge=True), "merge")
    assert "lacks 6 of 6 token(s) that the adapter brought, first <fig>" in message


def test_tokens_that_the_adapter_brought_must_have_the_ids_of_their_rows(tmp_path: Path) -> None:
    pair = copy_pair(tmp_path, adapter="tokens")
    merge_in_float32(pair, torch.bfloat16)
    swap_last_tokens(pair.tuned)
    (message,) = only(pair.loud(is_merge=True), "merge")
    assert "gives 2 of 6 token(s) that the adapter brought other ids" in message


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_merge_in_any_type_is_sound(dtype: torch.dtype, tmp_path: Path) -> None:
    pair = copy_pair(tmp_path)
    peft_merge(pair, dtype=dtype)
    assert pair.loud(is_merge=True) == []


def test_the_demo_s_merged_folder_is_its_base_plus_its_adapter(tmp_path: Path) -> None:
    pair = copy_pair(tmp_path)
    facts = pair.facts(is_merge=True)
    assert facts.merge is not None
    assert len(facts.merge.targets) == 28
    assert all(abs(one.share - 1) < 0.01 for one in facts.merge.targets.values())
    assert pair.loud(is_merge=True) == []
