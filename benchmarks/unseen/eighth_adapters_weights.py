"""Adapters of 4.6 whose weights or settings lose or change what training did."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import ADAPTER_CONFIG
from benchmarks.unseen.third_4_6_editing import (
    BASE,
    MARKUP_ROWS,
    MODEL_WEIGHTS,
    Tensors,
    adapted,
    all_of,
    on_tensors,
    read_json,
    read_tensors,
    renamed,
    setting,
    target_of,
    without_setting,
    without_tensors,
    write_json,
    write_tensors,
)


def scale_into_second(folder: Path) -> None:
    """Put the scale into the second factors and inherit `use_rslora`, as `add_weighted_adapter` did."""
    tensors, config = read_tensors(folder), read_json(folder / ADAPTER_CONFIG)
    scale = config["lora_alpha"] / config["r"]
    write_tensors(folder, {n: one * scale if "lora_B" in n else one for n, one in tensors.items()})
    write_json(folder / ADAPTER_CONFIG, {**config, "lora_alpha": config["r"], "use_rslora": True})


def start_from_principal_parts(folder: Path) -> None:
    """Write factors as PiSSA trains them, which start from a large part of each weight, under a plain setting."""
    tensors, config = read_tensors(folder), read_json(folder / ADAPTER_CONFIG)
    rank, weights = config["r"], load_file(BASE / MODEL_WEIGHTS)
    scale = config["lora_alpha"] / rank
    for first in [name for name in tensors if "lora_A" in name]:
        second = first.replace("lora_A", "lora_B")
        left, values, right = torch.linalg.svd(weights[target_of(first)].float(), full_matrices=False)
        kept = min(rank, len(values))
        root = values[:kept].sqrt()
        main_a, main_b = torch.zeros(rank, right.shape[1]), torch.zeros(left.shape[0], rank)
        main_a[:kept], main_b[:, :kept] = root[:, None] * right[:kept], left[:, :kept] * root
        tensors[first] = torch.cat([tensors[first].float(), main_a])
        tensors[second] = torch.cat([tensors[second].float() * scale, main_b], dim=1)
    write_tensors(folder, tensors)
    write_json(folder / ADAPTER_CONFIG, {**config, "r": 2 * rank, "lora_alpha": 2 * rank})


def side_by_side(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Place two second factors on the diagonal of one."""
    above = torch.cat([one, one.new_zeros(one.shape[0], other.shape[1])], dim=1)
    return torch.cat([above, torch.cat([other.new_zeros(other.shape[0], one.shape[1]), other], dim=1)])


def fuse_linear_attention(tensors: Tensors) -> Tensors:
    """Join the factors of projections that a serving engine computes as one, under the engine's names."""
    whole = {name: one for name, one in tensors.items() if ".in_proj_" not in name}
    for one, other, joined in (("in_proj_qkv", "in_proj_z", "in_proj_qkvz"), ("in_proj_b", "in_proj_a", "in_proj_ba")):
        for name in [name for name in tensors if f".{one}.lora_" in name]:
            parts = tensors[name], tensors[name.replace(one, other)]
            whole[name.replace(one, joined)] = torch.cat(parts) if "lora_A" in name else side_by_side(*parts)
    return whole


def shrink_vocabulary(tensors: Tensors) -> None:
    """Save both matrices along, with as many rows as the tokenizer has tokens and not as the model has."""
    weights = load_file(BASE / MODEL_WEIGHTS)
    for name in ("lm_head.weight", "model.language_model.embed_tokens.weight"):
        tensors[f"base_model.model.{name}"] = weights[name][: MARKUP_ROWS.start]


CASES = (
    Case(
        "text_only_training_names",
        adapted(renamed(lambda name: name.replace("model.model.language_model.", "model.model."))),
        "Trained with the causal language model alone, whose layers lie at `model.layers`; on the whole model no "
        "factor finds its place, and answers are the base's. (vllm-project/vllm#39369, vllm-project/vllm#48149)",
        ("language_model", "model.layers", "lora_A", "lora_B", "in_proj_qkv"),
    ),
    Case(
        "compiled_model_prefix",
        adapted(renamed(lambda name: f"_orig_mod.{name}"), "official"),
        "Saved from a compiled model, so that every name starts with `_orig_mod.`; nothing is loaded and the adapter "
        "does nothing. (MakazhanAlpamys/Soup#335)",
        ("_orig_mod", "lora_A", "lora_B", "q_proj", "merger"),
    ),
    Case(
        "weighted_adapter_inherits_rslora",
        adapted(scale_into_second, "tokens"),
        "`add_weighted_adapter` put the scale into the factors but inherited `use_rslora`, so that the update is "
        "the root of the rank too large and answers break down. (huggingface/peft#3449)",
        ("use_rslora", "rslora", "scale", "scaling", "lora_alpha"),
    ),
    Case(
        "pissa_factors_on_plain_base",
        adapted(start_from_principal_parts),
        "Trained with PiSSA and saved with `init_lora_weights: true`, without converting: the base keeps what the "
        "factors hold too, so that the large part of each weight counts twice. (huggingface/peft#1929)",
        ("pissa", "init_lora_weights", "lora_B", "scale", "in_proj_qkv", "norm"),
    ),
    Case(
        "fused_linear_attention_names",
        adapted(on_tensors(fuse_linear_attention), "tokens"),
        "Trained or converted in the layout of an engine that fuses projections of the linear attention; the model "
        "has them apart and gets nothing there. (sgl-project/sglang#31522)",
        ("in_proj_qkvz", "in_proj_ba", "in_proj_qkv", "in_proj_z", "linear_attn"),
    ),
    Case(
        "factors_not_transposed",
        adapted(on_tensors(lambda tensors: {name: one.T for name, one in tensors.items()})),
        "Converted from MLX, whose factors are transposed, by renaming alone; shapes do not fit and the adapter "
        "cannot be loaded. (osaurus-ai/vmlx-swift#320)",
        ("lora_A", "lora_B", "shape", "size mismatch", "transpos"),
    ),
    Case(
        "saved_embeddings_shrunk_to_tokenizer",
        adapted(on_tensors(shrink_vocabulary)),
        "`resize_token_embeddings(len(tokenizer))` shrank the padded vocabulary before training, and PEFT saved both "
        "matrices along; they do not fit the base. (huggingface/peft#2415)",
        ("embed_tokens", "lm_head", "size mismatch", "shape", "761"),
    ),
    Case(
        "only_input_rows_of_new_tokens",
        adapted(
            all_of(
                setting(ADAPTER_CONFIG, "trainable_token_indices", list(range(761, 767))),
                without_tensors("lm_head"),
            ),
            "tokens",
        ),
        "A list of token indices trains the input rows alone where head and embeddings are not tied; the new tokens "
        "can be read but not written.",
        ("lm_head", "<fig>", "<col>", "<pos>", "761", "trainable_token"),
    ),
    Case(
        "lora_alpha_missing",
        adapted(without_setting(ADAPTER_CONFIG, "lora_alpha"), "official"),
        "A converter left out `lora_alpha`; PEFT takes 8 and the update has an eighth of its size. "
        "(invergent-ai/surogate#173)",
        ("lora_alpha", "alpha", "scaling"),
    ),
    Case(
        "raw_state_dict_with_wrapper_names",
        adapted(
            renamed(
                lambda name: (
                    name.replace(".weight", ".default.weight")
                    if ".lora_" in name
                    else name.replace("_delta", "_delta.default")
                )
            ),
            "tokens",
        ),
        "The state was gathered from the wrapped model and written as it was, adapter name and all; PEFT adds the "
        "name again and cannot load it.",
        ("default", "lora_A", "lora_B", "lm_head", "trainable_tokens_delta"),
    ),
)
