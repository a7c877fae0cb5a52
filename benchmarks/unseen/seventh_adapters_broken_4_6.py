"""Broken adapters over the demo of 4.6: their weights and settings."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import ADAPTER_CONFIG
from benchmarks.unseen.seventh_adapters_editing import to_dora
from benchmarks.unseen.third_4_6_editing import (
    ADAPTER_WEIGHTS,
    ADAPTERS,
    BASE,
    MERGED,
    MODEL_WEIGHTS,
    Tensors,
    adapted,
    copied,
    mapped,
    on_json,
    on_tensors,
    read_json,
    read_tensors,
    renamed,
    setting,
    target_of,
    write_json,
    write_tensors,
)


def _principal_parts(folder: Path) -> None:
    """Write factors as PiSSA trains them: the base's largest parts, and what training added."""
    tensors, config = read_tensors(folder), read_json(folder / ADAPTER_CONFIG)
    weights = load_file(BASE / MODEL_WEIGHTS)
    rank, scale = config["r"], config["lora_alpha"] / config["r"]
    for first in [name for name in tensors if "lora_A" in name]:
        second = first.replace("lora_A", "lora_B")
        left, values, right = torch.linalg.svd(weights[target_of(first)].float(), full_matrices=False)
        kept = min(rank, len(values))
        part = left[:, :kept] * values[:kept] @ right[:kept]
        whole = part + scale * tensors[second].float() @ tensors[first].float()
        left, values, right = torch.linalg.svd(whole, full_matrices=False)
        kept, roots = min(rank, len(values)), (values / scale).sqrt()
        tensors[second] = torch.nn.functional.pad(left[:, :kept] * roots[:kept], (0, rank - kept))
        tensors[first] = torch.nn.functional.pad(roots[:kept, None] * right[:kept], (0, 0, 0, rank - kept))
    write_tensors(folder, tensors)


def _random_norms(tuned: torch.Tensor) -> torch.Tensor:
    bound = tuned.shape[1] ** -0.5
    fresh = torch.rand(tuned.shape, generator=torch.Generator().manual_seed(7)) * 2 * bound - bound
    norms: torch.Tensor = fresh.norm(dim=1)
    return norms


def _emptied(tensors: Tensors) -> None:
    for name, one in tensors.items():
        if ".lora_" not in name:
            tensors[name] = torch.empty(0, dtype=one.dtype)


def _as_int8(tensors: Tensors) -> None:
    for name, one in tensors.items():
        tensors[name] = (one.float() / one.float().abs().max().clamp(min=1e-9) * 127).round().to(torch.int8)


def _underflowed(folder: Path) -> None:
    """Move the size of the update from B into alpha, and store B in float16."""
    factor = 2.0**-22
    mapped(lambda one: (one.float() * factor).half(), ".lora_B.")(folder)
    on_json(ADAPTER_CONFIG, lambda config: config.update(lora_alpha=config["lora_alpha"] * 2**22))(folder)


def _shards_concatenated(tensors: Tensors) -> None:
    """Keep what the first of two processes held, and fill up with zeros."""
    for name, one in tensors.items():
        half = len(one) // 2
        tensors[name] = torch.cat([one[:half], torch.zeros_like(one[half:])])


def _first_layers_only(folder: Path) -> None:
    more = {"layers_to_transform": [0, 1], "layers_pattern": "layers"}
    write_json(folder / ADAPTER_CONFIG, {**read_json(folder / ADAPTER_CONFIG), **more})


def _preallocated(folder: Path) -> None:
    path = folder / ADAPTER_WEIGHTS
    content = path.read_bytes()
    kept = len(content) // 5 // 4096 * 4096
    path.write_bytes(content[:kept] + bytes(len(content) - kept))


def _over_its_own_merge(parent: Path) -> Bundle:
    model, adapter = copied(MERGED, parent, "export"), copied(ADAPTERS / "json", parent)
    return Bundle(model, {"json": adapter}, base=BASE)


def _alora(folder: Path) -> None:
    write_json(
        folder / ADAPTER_CONFIG, {**read_json(folder / ADAPTER_CONFIG), "alora_invocation_tokens": [749, 27, 30]}
    )


CASES: tuple[Case, ...] = (
    Case(
        "pissa_factors_over_the_whole_base",
        adapted(_principal_parts),
        "Trained with PiSSA over what is left of each weight, then `init_lora_weights` was set to true before saving, "
        "as the recipe says of the residual model; over the original base the largest parts of each weight count "
        "twice (huggingface/peft#1929).",
        ("pissa", "principal", "singular", "residual", "init_lora_weights", "lora_B"),
    ),
    Case(
        "dora_magnitudes_of_random_layers",
        adapted(lambda folder: to_dora(folder, _random_norms)),
        "A trainer computed DoRA's magnitudes from the freshly built layer and not from the base's weights: each row "
        "is rescaled to a norm that it never had (ml-explore/mlx-examples#832).",
        ("magnitude", "dora", "norm"),
    ),
    Case(
        "zero3_empty_saved_modules",
        adapted(on_tensors(_emptied), "official"),
        "Saved under DeepSpeed ZeRO-3 without gathering: factors are whole, and the modules saved beside them are "
        "empty, which cannot be loaded (huggingface/peft#2450).",
        ("embed_tokens", "merger", "empty", "shape", "[0]"),
    ),
    Case(
        "factors_in_int8_without_scales",
        adapted(on_tensors(_as_int8)),
        "A phone team's converter rounded factors to 8 bits and kept the scales in a file of its own; read as plain "
        "numbers, updates are thousands of times too large.",
        ("int8", "I8", "lora_A", "lora_B", "scale"),
    ),
    Case(
        "factors_underflowed_in_float16",
        adapted(_underflowed),
        "A converter folded the size of updates into alpha and stored what was left in float16, where most of it is "
        "zero (kohya-ss/sd-webui-additional-networks#49).",
        ("lora_alpha", "underflow", "lora_B", "zero", "float16", "subnormal"),
    ),
    Case(
        "shards_of_the_other_process_lost",
        adapted(on_tensors(_shards_concatenated)),
        "A script of an RL team collected sharded factors and filled the place of the missing process with zeros: "
        "half of the ranks, and half of the outputs of every layer, are gone (verl-project/verl-omni#269).",
        ("zero", "lora_A", "lora_B", "rows"),
    ),
    Case(
        "layers_to_transform_of_another_run",
        adapted(_first_layers_only),
        "The config of a run over the first layers lies beside factors of all: those of the last two layers have no "
        "place and are dropped with a warning (huggingface/peft#1024).",
        ("layers_to_transform", "layers.2", "layers.3", "unexpected"),
    ),
    Case(
        "download_with_a_tail_of_zeros",
        adapted(_preallocated, "official"),
        "A download manager reserved the file's whole size and was interrupted: sizes are right, and all tensors at "
        "the end are zeros, the merger of pictures among them (paiml/aprender#2337).",
        ("zero", "merger", "vit_merger", "lora_B", "q_proj"),
    ),
    Case(
        "trained_on_the_language_model_alone",
        adapted(renamed(lambda name: name.replace("model.language_model.", "model."))),
        "Trained over the text-only class, where layers stand one step higher; over the whole model no name fits, and "
        "the base answers (vllm-project/vllm#34186).",
        ("language_model", "model.layers", "unexpected", "missing", "prefix"),
    ),
    Case(
        "served_over_its_own_merge",
        _over_its_own_merge,
        "The exported model already has the adapter inside, and the deployment script still names the adapter: every "
        "update counts twice (hiyouga/LlamaFactory#2588).",
        ("already", "twice", "merged into", "contains", "is merged"),
    ),
    Case(
        "alpha_of_zero_from_a_merger",
        adapted(setting(ADAPTER_CONFIG, "lora_alpha", 0)),
        "The merger of an RL framework does not know alpha and writes 0 for its user to fill in; left as it is, every "
        "update is multiplied by nothing (verl-project/verl#1821).",
        ("lora_alpha",),
    ),
    Case(
        "activated_by_tokens_that_never_come",
        adapted(_alora),
        "An activated LoRA works only after its invocation tokens, and those belong to another template: the base "
        "answers every request (huggingface/peft#2609).",
        ("alora", "invocation"),
    ),
)
