"""Adapters over the demo of 4.6 whose weights or settings are lost or damaged on their way to a server."""

import shutil
from pathlib import Path

import torch

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import ADAPTER_CONFIG, writing
from benchmarks.unseen.sixth_adapters_editing import OFFICIAL_4_5, Factors, configured, on_factors
from benchmarks.unseen.third_4_6_editing import (
    ADAPTER_WEIGHTS,
    BASE,
    Tensors,
    adapted,
    all_of,
    copied,
    halve_ranks_of_mlp,
    mapped,
    on_tensors,
    renamed,
    setting,
    without_tensors,
)

EMBEDDINGS = "base_model.model.model.language_model.embed_tokens.weight"
RANK = 16


def half_of_rows(tensor: torch.Tensor) -> torch.Tensor:
    """Keep the rows of the first of two processes; those of the other are zero."""
    kept = tensor.clone()
    kept[(len(kept) + 1) // 2 :] = 0
    return kept


def principal(first: torch.Tensor, second: torch.Tensor, weight: torch.Tensor) -> Factors:
    """Write factors as PiSSA trains them: the weight's largest part, and what was learnt on top of it."""
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    rank = min(RANK, len(values))
    whole = (left[:, :rank] * values[:rank]) @ right[:rank] + 2 * second @ first
    left, values, right = torch.linalg.svd(whole, full_matrices=False)
    new_first, new_second = torch.zeros(RANK, weight.shape[1]), torch.zeros(weight.shape[0], RANK)
    new_first[:rank], new_second[:, :rank] = (
        values[:rank, None].sqrt() * right[:rank],
        left[:, :rank] * values[:rank].sqrt(),
    )
    return {"A": new_first, "B": new_second}


def empty_embeddings(tensors: Tensors) -> None:
    """Leave the place-holder of a partitioned parameter."""
    tensors[EMBEDDINGS] = torch.empty(0, dtype=torch.bfloat16)


def lose_rank_pattern(folder: Path) -> None:
    """Give feed-forward factors half the rank, and no word of it."""
    halve_ranks_of_mlp(folder)
    setting(ADAPTER_CONFIG, "rank_pattern", {})(folder)


def nest(folder: Path) -> None:
    """Leave everything in the folder of the last checkpoint."""
    inner = folder / "v0-20250423-180903" / "checkpoint-138"
    inner.mkdir(parents=True)
    for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        shutil.move(folder / file, inner / file)
    writing("args.json", "{}\n")(folder)


def of_other_release(parent: Path) -> Bundle:
    """Bring the adapter of the older generation."""
    return Bundle(BASE, {"official": copied(OFFICIAL_4_5, parent)})


def one_layer_overflown(tensors: Tensors) -> None:
    """Let one factor have run over."""
    name = next(one for one in tensors if ".layers.2.mlp.down_proj.lora_B" in one)
    tensors[name][::9] = torch.inf


CASES: tuple[Case, ...] = (
    Case(
        "second_process_left_out",
        adapted(mapped(half_of_rows, "lora_B")),
        "FSDP2 on two GPUs: the file has only the first process's rows of every lora_B and zeros in place of the "
        "others, so that half of each update is lost and answers mix styles (axolotl-ai-cloud/axolotl#3772).",
        ("lora_B", "zero", "rows"),
    ),
    Case(
        "trained_on_the_text_model",
        adapted(renamed(lambda name: name.replace("language_model.layers", "layers"))),
        "Trained on the language model alone with AutoModelForCausalLM, so that names lack the part that the picture "
        "model has; no tensor finds its module and the base answers (vllm-project/vllm#48022).",
        ("model.layers", "unexpected", "language_model", "lora_A", "no module"),
    ),
    Case(
        "alpha_zero_after_merger",
        adapted(configured(lora_alpha=0)),
        "The tool that collects the shards of a training run writes `lora_alpha: 0`; every update is multiplied by "
        "nothing and the base answers (verl-project/verl#5325).",
        ("lora_alpha", "scal"),
    ),
    Case(
        "activated_by_tokens_of_another_vocabulary",
        adapted(configured(alora_invocation_tokens=[1502, 2031, 902])),
        "An activated LoRA whose invocation tokens are ids of the vocabulary that its recipe was copied from; no "
        "prompt ever has them, so that the adapter stays asleep (huggingface/peft#3003).",
        ("alora", "invocation", "1502"),
    ),
    Case(
        "embeddings_partitioned_away",
        adapted(on_tensors(empty_embeddings), "official"),
        "DeepSpeed ZeRO-3 with embed_tokens among modules_to_save: the file has a tensor of no elements in its place "
        "and PEFT cannot load it (hiyouga/LlamaFactory#7665).",
        ("embed_tokens", "shape", "size mismatch", "empty"),
    ),
    Case(
        "pissa_said_to_be_plain",
        adapted(all_of(on_factors(principal), configured(r=RANK, lora_alpha=RANK, init_lora_weights=True))),
        "Factors trained from PiSSA, whose base should lose its largest part first, with `init_lora_weights: true`; "
        "that part is added a second time and answers are garbage (huggingface/peft#1929).",
        ("pissa", "init_lora_weights", "lora_A", "lora_B", "update"),
    ),
    Case(
        "adapter_of_the_older_generation",
        of_other_release,
        "The adapter of a MiniCPM-V 4.5 project mounted on 4.6 after the base was upgraded: no module has the names "
        "that it targets and PEFT cannot load it (huggingface/peft#1932).",
        ("target_modules", "llm", "vpm", "resampler"),
    ),
    Case(
        "one_factor_overflown",
        adapted(on_tensors(one_layer_overflown), "tokens"),
        "Saved from float16 training with an overflow in one factor: its infinities turn the hidden states of every "
        "answer into NaN (kohya-ss/musubi-tuner#26).",
        ("infinit", "finite", "down_proj", "layers.2", "nan"),
    ),
    Case(
        "output_folder_instead_of_checkpoint",
        adapted(nest),
        "The output folder of the trainer is handed over, while the adapter lies two folders below it in the last "
        "checkpoint; there is nothing to load.",
        ("adapter_config.json", "adapter_model.safetensors"),
    ),
    Case(
        "nothing_learnt_by_any_factor",
        adapted(mapped(torch.zeros_like, "lora_B")),
        "Gradients were NaN and every step was skipped: each lora_B is exactly zero as it began, and the base answers "
        "(ostris/ai-toolkit#1046).",
        ("lora_B", "zero", "effect", "no update"),
    ),
    Case(
        "rank_pattern_emptied",
        adapted(lose_rank_pattern),
        "Modules have ranks of their own, but `rank_pattern` was emptied when adapters were combined; shapes differ "
        "from what the config announces and PEFT cannot load it (huggingface/peft#2550).",
        ("rank_pattern", "size mismatch", "rank", "mlp"),
    ),
    Case(
        "first_pipeline_stage_only",
        adapted(without_tensors(".layers.2.", ".layers.3.")),
        "Exported from pipeline-parallel training by the process of the first stage: the later layers' factors are "
        "missing and start from zero (radixark/miles#1792).",
        ("layers.2", "layers.3", "missing"),
    ),
)
