"""One reading of an adapter's names and one scale: what measures rows, reach and merges takes both from here."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from service.checkpoint.deltas import read_updates
from service.checkpoint.weights import WeightFiles
from service.domain.factors import Part, by_module, pair_of, part_of, scale_of, told_scale
from tests.broken.adapter_hardly_trained import make as make_hardly_trained
from tests.builders import PREFIX, copy_demo, edited_json, edited_tensors, rename_tensors

HUGE = 10**400


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("layers.0.q_proj.lora_A.weight", Part("layers.0.q_proj", "lora_A", is_bias=False)),
        ("layers.0.q_proj.lora_B.default.bias", Part("layers.0.q_proj", "lora_B", is_bias=True)),
        ("embed.lora_embedding_B", Part("embed", "lora_embedding_B", is_bias=False)),
        ("embed.lora_embedding_A.default", Part("embed", "lora_embedding_A", is_bias=False)),
        ("q_proj.lora_magnitude_vector", Part("q_proj", "lora_magnitude_vector", is_bias=False)),
        ("embed.token_adapter.trainable_tokens_delta", Part("embed", "trainable_tokens_delta", is_bias=False)),
        ("embed.base_layer.weight", Part("embed", "base_layer", is_bias=False)),
        ("attn.base_layer.out_proj.lora_A.weight", Part("attn.base_layer.out_proj", "lora_A", is_bias=False)),
        ("experts.base_layer.lora_A.weight", Part("experts.base_layer", "lora_A", is_bias=False)),
        ("layers.0.q_proj.weight", None),
        ("layers.0.q_proj.lora_C.weight", None),
    ],
)
def test_a_name_is_read_into_module_and_part(name: str, part: Part | None) -> None:
    assert part_of(name) == part


def test_factors_around_one_module_are_pairs_of_their_own_and_have_one_owner() -> None:
    stems = ("experts", "experts.base_layer", "experts.base_layer.base_layer")
    names = [f"{stem}.lora_{side}.weight" for stem in stems for side in "AB"]
    pairs = {module: pair_of(parts) for module, parts in by_module({PREFIX + one: one for one in names}).items()}
    assert pairs == {one: (f"{PREFIX}{one}.lora_A.weight", f"{PREFIX}{one}.lora_B.weight") for one in stems}
    assert {part.owner for one in names if (part := part_of(one))} == {"experts"}


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"r": 4, "lora_alpha": 8}, 2.0),
        ({"r": 4, "lora_alpha": 8, "use_rslora": True}, 4.0),
        ({"r": 4, "lora_alpha": 8, "rank_pattern": {"q_proj": 16}}, 0.5),
        ({"r": 4, "lora_alpha": 8, "alpha_pattern": {"k_proj": 1, "q_.*": 4}}, 1.0),
        ({"r": 4, "lora_alpha": 8, "alpha_pattern": {"(": 1, "a{99999999999}": 1}}, 2.0),
        ({}, 4.0),
        ({"r": 0, "lora_alpha": 8}, None),
        ({"r": 4, "lora_alpha": "8"}, None),
        ({"r": [4], "lora_alpha": 8}, None),
        ({"r": 4, "lora_alpha": HUGE}, None),
        ({"r": 4, "lora_alpha": float("nan")}, None),
        ({"r": 4, "lora_alpha": 8, "alpha_pattern": {"q_proj": float("inf")}}, None),
        ({"r": HUGE, "lora_alpha": 8}, None),
    ],
)
def test_the_scale_is_alpha_over_rank_by_the_module_s_own_patterns(config: dict[str, Any], scale: float | None) -> None:
    assert told_scale(config, "layers.0.q_proj", 2) == scale
    if scale is None:
        with pytest.raises(ValueError, match="to scale by"):
            scale_of(config, "layers.0.q_proj", 2)


def test_an_alpha_of_another_module_leaves_rows_that_factors_change_described(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path, "tokens")
    base = folders.facts().base.head
    assert base is not None
    rows, hidden = base.num_rows, base.hidden_size
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "lm_head" in one]:
            del tensors[name]
        tensors[f"{PREFIX}lm_head.lora_A.weight"] = torch.ones(8, hidden)
        tensors[f"{PREFIX}lm_head.lora_B.weight"] = torch.ones(rows, 8)
    described = []
    for pattern in ({}, {"q_proj": 3}, {"lm_head": 3}):
        with edited_json(folders.adapter / "adapter_config.json") as config:
            config["alpha_pattern"] = pattern
        update = folders.facts().adapters["tokens"].head_update
        assert update is not None
        described.append(update.rows)
    assert described[0] == described[1]
    assert described[0].keys() == described[2].keys()
    assert described[0] != described[2]
    assert described[0]


def test_factors_under_the_adapter_s_own_name_reach_as_far(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    make_hardly_trained(folders)
    reach = folders.facts().adapters["json"].farthest_update
    rename_tensors(folders.adapter_weights, lambda name: name.replace(".weight", ".default.weight"))
    assert reach is not None
    assert folders.facts().adapters["json"].farthest_update == reach


def test_factors_reach_as_far_on_a_base_that_was_saved_with_another_prefix(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    make_hardly_trained(folders)
    reach = folders.facts().adapters["json"].farthest_update
    rename_tensors(folders.base_weights, lambda name: name.replace("model.language_model.", "language_model.model."))
    assert reach is not None
    assert folders.facts().adapters["json"].farthest_update == reach


def test_factors_on_parameters_of_one_module_are_named_as_not_computed(tmp_path: Path) -> None:
    stems = ("experts", "experts.base_layer", "experts.base_layer.base_layer")
    sizes = {"A": (8, 4), "B": (4, 8)}
    tensors = {f"{PREFIX}{one}.lora_{side}.weight": torch.ones(size) for one in stems for side, size in sizes.items()}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_parameters": ["experts.up", "experts.down"]}
    updates = read_updates(WeightFiles([tmp_path / "adapter_model.safetensors"]), config, {})
    assert not updates.by_name
    assert updates.uncomputed == dict.fromkeys(stems, "it changes parameters other than the weight")
