"""Sound adapters of 4.5, and sound merges, that people worry about."""

from pathlib import Path

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import TOKENIZER_CONFIG, adapted_4_5, to_type
from benchmarks.unseen.tenth_adapters_editing import JSON, config, merged_model
from benchmarks.unseen.third_4_6_editing import (
    BASE,
    MERGED,
    Tensors,
    all_of,
    deltas,
    on_json,
    on_tensors,
    setting,
    sharded,
    without_files,
    write_json,
)

TOKENIZER_FILES = (
    "added_tokens.json", "merges.txt", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
    "vocab.json",
)  # fmt: skip


def in_half_steps(tensors: Tensors) -> None:
    """Add updates that were rounded to bfloat16 themselves."""
    for name, update in deltas(JSON).items():
        tensors[name] = tensors[name] + update.to(torch.bfloat16)


def with_deepspeed_leftovers(folder: Path) -> None:
    """Write what DeepSpeed leaves beside an adapter."""
    (folder / "latest").write_text("global_step400", encoding="utf-8")
    (folder / "zero_to_fp32.py").write_text("#!/usr/bin/env python\n", encoding="utf-8")
    (folder / "global_step400").mkdir()
    write_json(folder / "trainer_state.json", {"global_step": 400, "epoch": 3.0, "log_history": []})


CASES: tuple[Case, ...] = (
    Case(
        "padding_by_a_reserved_token",
        adapted_4_5(
            all_of(
                setting(TOKENIZER_CONFIG, "pad_token", "<|reserved_0|>"),
                setting("special_tokens_map.json", "pad_token", "<|reserved_0|>"),
            )
        ),
        "A reserved token was made the padding so that training does not hide the end of turns from the loss; "
        "nothing is padded in an answer (unslothai/unsloth#416).",
    ),
    Case(
        "adapter_without_a_tokenizer",
        adapted_4_5(without_files(*TOKENIZER_FILES)),
        "The trainer saved no tokenizer with the adapter, which was taken for a fault; the base's is right "
        "(ymcui/Chinese-LLaMA-Alpaca#142).",
    ),
    Case(
        "file_of_the_tokenizer_named_elsewhere",
        adapted_4_5(
            on_json(
                TOKENIZER_CONFIG,
                lambda content: content.update(
                    tokenizer_file="/root/models/MiniCPM-V-4_5/tokenizer.json", name_or_path="/root/models/MiniCPM-V"
                ),
            )
        ),
        "transformers added the path of a tokenizer file on the training machine to the config on saving, where it "
        "is no more (FlagOpen/FlagEmbedding#407).",
    ),
    Case(
        "adapter_in_float32",
        adapted_4_5(to_type(torch.float32)),
        "The factors were trained and saved in float32 over a base of 16 bits, against overflows "
        "(cactus-compute/needle#59).",
    ),
    Case(
        "leftovers_of_deepspeed",
        adapted_4_5(with_deepspeed_leftovers),
        "A checkpoint of DeepSpeed has `latest`, a script and a folder of steps beside an adapter that is whole "
        "(deepspeedai/DeepSpeed#7900).",
    ),
    Case(
        "said_not_to_be_for_inference",
        adapted_4_5(config(inference_mode=False, task_type="FEATURE_EXTRACTION")),
        "The config of the checkpoint says `inference_mode: false` and another kind of task, neither of which the "
        "weights depend on (huggingface/sentence-transformers#3701).",
    ),
    Case(
        "merged_by_rounded_updates",
        merged_model(on_tensors(in_half_steps), BASE, JSON),
        "The merge was computed in bfloat16, and not in float32 as a newer version does; the weights differ in their "
        "last bits (ml-explore/mlx-lm#1120).",
    ),
    Case(
        "merged_to_float16",
        merged_model(
            all_of(
                to_type(torch.float16),
                setting("config.json", "dtype", "float16"),
                setting("config.json", "text_config.dtype", "float16"),
            ),
            BASE,
            JSON,
            MERGED,
        ),
        "Trained in bfloat16 and saved in float16 when merging, which somebody feared for the precision "
        "(unslothai/unsloth#195).",
    ),
    Case(
        "merged_in_shards",
        merged_model(
            sharded(3),
            BASE,
            JSON,
            MERGED,
        ),
        "DeepSpeed saved the whole model in several shards, as it should, where the base has one file "
        "(huggingface/peft#2892).",
    ),
)
