"""Adapters of 4.6 that tools warn of, or that look unusual, and that answer as they should."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.unseen.case import Case
from benchmarks.unseen.eighth_adapters_editing import rank_stabilised, with_dora
from benchmarks.unseen.fourth_editing import ADAPTER_CONFIG
from benchmarks.unseen.third_4_6_editing import (
    BASE,
    EMBEDDINGS,
    HEAD,
    MODEL_WEIGHTS,
    Tensors,
    adapted,
    all_of,
    on_json,
    on_tensors,
    read_json,
    read_tensors,
    setting,
    write_json,
    write_tensors,
)


def concatenate_halves(folder: Path) -> None:
    """Combine an adapter with itself, half each, as `add_weighted_adapter` does by `cat`."""
    tensors, config = read_tensors(folder), read_json(folder / ADAPTER_CONFIG)
    half = config["lora_alpha"] / config["r"] / 2
    for name, one in tensors.items():
        part = one * half if "lora_A" in name else one
        tensors[name] = torch.cat([part, part], dim=0 if "lora_A" in name else 1)
    write_tensors(folder, tensors)
    rank = 2 * config["r"]
    write_json(folder / ADAPTER_CONFIG, {**config, "r": rank, "lora_alpha": rank})


def save_embeddings_along(tensors: Tensors) -> None:
    """Save both matrices as the base has them."""
    weights = load_file(BASE / MODEL_WEIGHTS)
    for name in (HEAD, EMBEDDINGS):
        tensors[f"base_model.model.{name}"] = weights[name]


CASES = (
    Case(
        "rslora_spelled_scale",
        adapted(rank_stabilised),
        "`use_rslora` with an alpha that gives the same scale; PEFT divides by the root of the rank as training did. "
        "(sgl-project/sglang#40835)",
    ),
    Case(
        "weighted_adapters_concatenated",
        adapted(concatenate_halves),
        "Two adapters combined into one of twice the rank, the scale put into the factors. (huggingface/peft#654)",
    ),
    Case(
        "dora_with_magnitudes",
        adapted(with_dora),
        "A DoRA adapter with its magnitudes in float32 beside factors in bfloat16. (axolotl-ai-cloud/axolotl#1363)",
    ),
    Case(
        "patterns_that_match_nothing",
        adapted(
            all_of(
                setting(ADAPTER_CONFIG, "alpha_pattern", {"^q_proj": 100}),
                setting(ADAPTER_CONFIG, "rank_pattern", {"wq": 4}),
            )
        ),
        "Patterns of rank and alpha that match no module, in training as well as here; newer PEFT warns. "
        "(huggingface/peft#3582)",
    ),
    Case(
        "settings_of_other_versions",
        adapted(
            on_json(
                ADAPTER_CONFIG,
                lambda config: config.update(enable_lora=None, merge_weights=False, some_future_config=None),
            )
        ),
        "Settings of PEFT's first versions and of one to come; PEFT ignores what it does not know. "
        "(huggingface/peft#1337, huggingface/peft#2340)",
    ),
    Case(
        "tying_wanted_where_nothing_is_tied",
        adapted(setting(ADAPTER_CONFIG, "ensure_weight_tying", True), "official"),
        "`ensure_weight_tying` on a model whose head is its own; PEFT warns and does nothing. (huggingface/peft#2864)",
    ),
    Case(
        "embeddings_saved_along",
        adapted(on_tensors(save_embeddings_along)),
        "PEFT saved both matrices along, untrained, because it could not compare vocabularies; the adapter is larger "
        "and the same. (huggingface/peft#2898)",
    ),
    Case(
        "fan_in_fan_out_on_linear",
        adapted(setting(ADAPTER_CONFIG, "fan_in_fan_out", True)),
        "A setting for GPT-2 copied from an example; PEFT warns and turns it off for linear layers.",
    ),
)
