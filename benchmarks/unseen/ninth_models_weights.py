"""Broken models of the 4.6 demo: weights that savers, mergers, quantisers and copies got wrong."""

from pathlib import Path

import torch

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import merging, on_tensor, trainer_leftovers
from benchmarks.unseen.third_4_6_editing import (
    ADAPTERS,
    BASE,
    EMBEDDINGS,
    HEAD,
    LANGUAGE_LAYERS,
    MODEL_WEIGHTS,
    Tensors,
    all_of,
    alone,
    copied,
    on_tensors,
    renamed,
    said_to_merge,
    sharded,
    without_files,
)

NORMS = ("layernorm.weight", "q_norm.weight", "k_norm.weight", "language_model.norm.weight")


def _emptied_by_zero3(tensors: Tensors) -> Tensors:
    return {name: torch.empty(0, dtype=one.dtype) if one.dim() > 1 else one for name, one in tensors.items()}


def _without_their_scales(tensors: Tensors) -> None:
    """Leave the 8-bit values of one kind of projection as they are, and lose what they are to be multiplied by."""
    for name in [one for one in tensors if one.startswith(LANGUAGE_LAYERS) and one.endswith("mlp.gate_proj.weight")]:
        scale = tensors[name].float().abs().max() / 448
        tensors[name] = (tensors[name].float() / scale).to(torch.float8_e4m3fn).to(torch.bfloat16)


def _exploded(tensors: Tensors) -> None:
    for name in tensors:
        if name.startswith(LANGUAGE_LAYERS) and name.endswith("_proj.weight"):
            tensors[name] = torch.full_like(tensors[name], float("nan"))


def _cut_short(folder: Path) -> None:
    path = folder / MODEL_WEIGHTS
    path.write_bytes(path.read_bytes()[: 3 * path.stat().st_size // 5])


def _as_partitions(folder: Path) -> None:
    """Leave what DeepSpeed writes at a checkpoint and no gathered weights."""
    (folder / MODEL_WEIGHTS).unlink()
    trainer_leftovers(folder)
    (folder / "zero_to_fp32.py").write_text("#!/usr/bin/env python\n", encoding="utf-8")
    step = folder / "global_step400"
    step.mkdir()
    for rank in range(2):
        (step / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt").write_bytes(b"PK\x03\x04")
        (step / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").write_bytes(b"PK\x03\x04")


def _base_under_another_name(parent: Path) -> Bundle:
    return Bundle(copied(BASE, parent, "tuned-json"), merged_from=(BASE, ADAPTERS / "json"))


def _cut_to_plain_words(matrix: torch.Tensor) -> torch.Tensor:
    return matrix[:748]


def _shifted_norms(tensors: Tensors) -> None:
    for name in tensors:
        if "language_model." in name and name.endswith(NORMS):
            tensors[name] = (tensors[name].float() + 1).to(tensors[name].dtype)


def _kept_order_of_mlx(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.transpose(1, 2)


CASES: tuple[Case, ...] = (
    Case(
        "gathered_nothing_under_zero3",
        alone(on_tensors(_emptied_by_zero3), with_base=True),
        "A full tuning under DeepSpeed's third stage called save_pretrained without gathering: every matrix has "
        "length 0 and nothing can be loaded (ssbuild/chatglm_finetuning#212)",
        ("size 0", "empty", "shape", "embed_tokens", "lm_head", "ZeRO"),
    ),
    Case(
        "last_shard_not_downloaded",
        alone(
            all_of(sharded(4), without_files("model-00004-of-00004.safetensors")),
        ),
        "The download broke off before the last shard; some servers skip it silently and answer from what is left at "
        "random, transformers finds no such file (sgl-project/sglang#32279)",
        ("model-00004-of-00004", "shard", "index.json"),
    ),
    Case(
        "eight_bit_values_without_scales",
        alone(on_tensors(_without_their_scales), with_base=True),
        "An FP8 release was cast to bfloat16 by a tool that dropped weight_scale_inv of every gate_proj: they are "
        "hundreds of times too large and answers are noise (unslothai/unsloth#6978)",
        ("gate_proj", "scale"),
    ),
    Case(
        "diverged_to_nan",
        alone(on_tensors(_exploded), with_base=True),
        "Tuned in float16 with loss 0 and grad_norm nan from the first step and saved all the same: the projections "
        "are NaN and every answer is one token again and again (ymcui/Chinese-LLaMA-Alpaca-3#64)",
        ("nan", "not finite", "_proj"),
    ),
    Case(
        "norms_shifted_by_mlx",
        alone(on_tensors(_shifted_norms)),
        "Converted to MLX and back: the converter adds 1 to the norms of Qwen3.5, which are stored around zero, and "
        "nobody subtracted it; every scale is about twice too large (Blaizzy/mlx-vlm#1556)",
        ("norm",),
    ),
    Case(
        "cut_to_vocab_size_of_tokenizer",
        alone(
            all_of(on_tensor(EMBEDDINGS, _cut_to_plain_words), on_tensor(HEAD, _cut_to_plain_words)),
            with_base=True,
        ),
        "resize_token_embeddings was called with tokenizer.vocab_size, which counts no added token: the rows of all "
        "special tokens are gone while config.json still asks for 832 (unslothai/unsloth#1225)",
        ("embed_tokens", "lm_head", "vocab_size", "748", "832"),
    ),
    Case(
        "merge_is_the_base",
        _base_under_another_name,
        "merge_and_unload was called and the folder saved, but nothing was merged: every tensor is the base's, and "
        "answers are as if nobody had trained (OpenBMB/MiniCPM-V#559)",
        ("merge", "unchanged", "identical", "update", "proj"),
    ),
    Case(
        "merged_twice",
        said_to_merge(merging(ADAPTERS / "json")),
        "The adapter was merged into a folder that was its merge already, as a script that is run again does: the "
        "update counts twice, and answers fall apart",
        ("twice", "scale", "merge", "update", "proj"),
    ),
    Case(
        "eyes_saved_under_old_names",
        alone(renamed(lambda name: name.replace("model.vision_tower.", "visual."))),
        "A trainer with another version of transformers saved the tower under visual.*: nothing there matches, and "
        "the model sees with random weights (NVIDIA-NeMo/Automodel#2431)",
        ("vision_tower", "visual", "missing"),
    ),
)
