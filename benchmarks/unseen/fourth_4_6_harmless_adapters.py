"""Sound adapters of 4.6 that look suspicious: factors, ranks and rows written in other ways that mean the same."""

import math
from pathlib import Path

import torch

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import (
    ADAPTER_CONFIG,
    keeping_settings,
    names_of,
    to_type,
    trainer_leftovers,
)
from benchmarks.unseen.third_4_6_editing import (
    ADAPTERS,
    BASE,
    EMBEDDINGS,
    HEAD,
    MARKUP_ROWS,
    Tensors,
    adapted,
    all_of,
    copied,
    deltas,
    on_tensors,
    read_json,
    read_tensors,
    setting,
    write_json,
    write_tensors,
)

PREFIX = "base_model.model."


def _scaled_into_factors(tensors: Tensors) -> None:
    for name in names_of(tensors, ("lora_B",)):
        tensors[name] = tensors[name] * 2


def _padded_ranks(tensors: Tensors) -> None:
    """Give every pair of factors twice the rank, the rest zeros."""
    for name in names_of(tensors, ("lora_",)):
        axis = 0 if "lora_A" in name else 1
        tensors[name] = torch.cat([tensors[name], torch.zeros_like(tensors[name])], dim=axis)


def _silent_gates(tensors: Tensors) -> None:
    """Zero the second factors of the first layer's decay, as where no gradient ever came."""
    for name in names_of(tensors, ("layers.0.linear_attn.in_proj_a.lora_B",)):
        tensors[name] = torch.zeros_like(tensors[name])


def _with_magnitudes(adapter: Path) -> None:
    """Write a plain adapter as DoRA, its magnitudes the norms of the tuned weights: the same weights."""
    tensors, weights = read_tensors(adapter), read_tensors(BASE)
    for target, update in deltas().items():
        magnitudes = (weights[target].float() + update).norm(dim=1)
        tensors[PREFIX + target.replace(".weight", ".lora_magnitude_vector")] = magnitudes
    write_tensors(adapter, tensors)
    setting(ADAPTER_CONFIG, "use_dora", value=True)(adapter)


def _whole_matrices(adapter: Path) -> None:
    """Write the trained rows of new tokens as whole matrices, as Unsloth and LLaMA-Factory do."""
    tensors, weights = read_tensors(adapter), read_tensors(BASE)
    for name, target in (("lm_head", HEAD), ("model.language_model.embed_tokens", EMBEDDINGS)):
        weights[target][MARKUP_ROWS] = tensors.pop(f"{PREFIX}{name}.token_adapter.trainable_tokens_delta")
        tensors[PREFIX + target] = weights[target]
    write_tensors(adapter, tensors)
    changes = {"trainable_token_indices": None, "modules_to_save": ["embed_tokens", "lm_head"]}
    write_json(adapter / ADAPTER_CONFIG, {**read_json(adapter / ADAPTER_CONFIG), **changes})


def _rotated_factors(tensors: Tensors) -> None:
    """Turn each pair of factors by an orthogonal matrix between them, which their product does not see."""
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))[0]
    for name in names_of(tensors, ("lora_A",)):
        second = name.replace("lora_A", "lora_B")
        tensors[name], tensors[second] = turn @ tensors[name].float(), tensors[second].float() @ turn.T


def _all_three(parent: Path) -> Bundle:
    names = ("json", "tokens", "official")
    return Bundle(BASE, {name: copied(ADAPTERS / name, parent) for name in names})


CASES = (
    Case(
        "all_three_at_once",
        _all_three,
        "Three adapters of different kinds on one base. 30, 30 and 29 of 30 right, as before.",
    ),
    Case(
        "settings_of_an_early_peft",
        adapted(
            all_of(
                keeping_settings("peft_type", "r", "lora_alpha", "target_modules", "exclude_modules", "task_type"),
                trainer_leftovers,
                setting(ADAPTER_CONFIG, "base_model_name_or_path", "unsloth/minicpm-demo-bnb-4bit"),
                to_type(torch.float32),
            )
        ),
        "A checkpoint folder of a trainer: few settings, float32, and the name of a quantised base. "
        "30 of 30 right, as before.",
    ),
    Case(
        "strength_moved_into_the_factors",
        adapted(all_of(on_tensors(_scaled_into_factors), setting(ADAPTER_CONFIG, "lora_alpha", 8))),
        "Scaled for a server that takes alpha for r. 30 of 30 right, as before.",
    ),
    Case(
        "ranks_padded_with_zeros",
        adapted(
            all_of(
                on_tensors(_padded_ranks),
                setting(ADAPTER_CONFIG, "r", 16),
                setting(ADAPTER_CONFIG, "lora_alpha", 32),
            )
        ),
        "Padded to the one rank that a server has room for. 30 of 30 right, as before.",
    ),
    Case(
        "factors_turned_against_each_other",
        adapted(on_tensors(_rotated_factors)),
        "Factors from a decomposition of their product: other numbers, the same update. 30 of 30 right, as before.",
    ),
    Case(
        "one_module_never_moved",
        adapted(on_tensors(_silent_gates)),
        "The first layer's decay got no gradient, and its second factor is zero. 30 of 30 right, as before.",
    ),
    Case(
        "scaled_by_the_root_of_the_rank",
        adapted(
            all_of(
                setting(ADAPTER_CONFIG, "use_rslora", value=True),
                setting(ADAPTER_CONFIG, "lora_alpha", 2 * math.sqrt(8)),
            )
        ),
        "rsLoRA with the alpha that gives the same strength. 30 of 30 right, as before.",
    ),
    Case(
        "written_as_dora",
        adapted(_with_magnitudes),
        "DoRA whose magnitudes are the norms of the tuned weights. 30 of 30 right, as before.",
    ),
    Case(
        "new_rows_as_whole_matrices",
        adapted(_whole_matrices, adapter="tokens"),
        "Unsloth and LLaMA-Factory save both whole matrices in place of some rows. 30 of 30 right, as before.",
    ),
    Case(
        "stored_the_other_way_round_it_says",
        adapted(setting(ADAPTER_CONFIG, "fan_in_fan_out", value=True)),
        "A setting for GPT-2 that PEFT takes back for linear layers, with a warning. 30 of 30 right, as before.",
    ),
)
