"""Broken models of the 4.5 demo: what the official scripts, savers and copies leave behind."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    ADAPTERS_4_5,
    CONFIG,
    PREPROCESSOR,
    TOKENIZER,
    TOKENIZER_CONFIG,
    alone_4_5,
    merging,
    said_to_merge_4_5,
    trainer_leftovers,
)
from benchmarks.unseen.third_4_6_editing import (
    MODEL_WEIGHTS,
    all_of,
    mapped,
    on_json,
    setting,
    without_files,
)

TEMPLATE_OF_LLAMA = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{{ content }}{% endfor %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)
FIRST_MARKER = 758


def _cut_short(folder: Path) -> None:
    path = folder / MODEL_WEIGHTS
    path.write_bytes(path.read_bytes()[: 3 * path.stat().st_size // 5])


def _as_partitions(folder: Path) -> None:
    """Leave what DeepSpeed writes at a checkpoint, and no gathered weights."""
    (folder / MODEL_WEIGHTS).unlink()
    trainer_leftovers(folder)
    (folder / "zero_to_fp32.py").write_text("#!/usr/bin/env python\n", encoding="utf-8")
    step = folder / "global_step400"
    step.mkdir()
    for rank in range(2):
        (step / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt").write_bytes(b"PK\x03\x04")
        (step / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").write_bytes(b"PK\x03\x04")


def _cast_to_eight_bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.int8) if tensor.dim() > 1 else tensor


def _with_bom(folder: Path) -> None:
    path = folder / CONFIG
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def _without_markers(content: dict[str, Any]) -> None:
    content["added_tokens"] = [one for one in content["added_tokens"] if one["id"] < FIRST_MARKER]


def _without_listed_markers(content: dict[str, Any]) -> None:
    listed = content["added_tokens_decoder"]
    content["added_tokens_decoder"] = {id_: one for id_, one in listed.items() if int(id_) < FIRST_MARKER}
    content["additional_special_tokens"] = ["<unk>"]


CASES: tuple[Case, ...] = (
    Case(
        "partitions_only_4_5",
        alone_4_5(_as_partitions, with_base=True),
        "The folder of a step of DeepSpeed's third stage holds partitions and zero_to_fp32.py, which nobody ran: no "
        "weights are there to load (hiyouga/LlamaFactory#477)",
        ("model.safetensors", "zero_to_fp32", "no weights", "global_step"),
    ),
    Case(
        "cut_short_by_copy_4_5",
        alone_4_5(_cut_short),
        "A copy to an object store broke off and kept the name: the header promises more bytes than there are, and "
        "nothing loads (codefuse-ai/MFTCoder#20)",
        ("model.safetensors", "truncated", "incomplete", "bytes", "cut"),
    ),
    Case(
        "preprocessor_not_saved_4_5",
        alone_4_5(without_files(PREPROCESSOR), with_base=True),
        "The official script saves model and tokenizer only; without preprocessor_config.json no picture can be "
        "prepared (OpenBMB/MiniCPM-V#767)",
        ("preprocessor_config", "preprocessor", "image_processor"),
    ),
    Case(
        "config_with_bom_4_5",
        alone_4_5(_with_bom),
        "config.json was edited in Notepad and saved with a byte order mark, which json refuses "
        "(minimaxir/gpt-2-simple#263)",
        ("config.json", "BOM", "byte order", "utf-8"),
    ),
    Case(
        "rope_base_reset_4_5",
        alone_4_5(setting(CONFIG, "rope_theta", 10000.0), with_base=True),
        "Saved by transformers 5, which keeps rope_theta inside rope_parameters, then loaded and saved by 4, which did "
        "not look there and wrote its default: 10000 for 1000000 (vllm-project/vllm#42624)",
        ("rope_theta", "rope", "rotary"),
    ),
    Case(
        "cast_to_eight_bits_4_5",
        alone_4_5(
            mapped(lambda one: one.to(torch.int8) if one.dim() > 1 else one, "llm.model.layers."), with_base=True
        ),
        "To halve the file, somebody cast the matrices with v.to(torch.int8) and kept no scale: nearly every weight is "
        "rounded to 0 (hiyouga/LlamaFactory#1639)",
        ("int8", "zero", "dtype", "_proj"),
    ),
    Case(
        "template_of_llama3_4_5",
        alone_4_5(setting(TOKENIZER_CONFIG, "chat_template", TEMPLATE_OF_LLAMA), with_base=True),
        "The official script ran with llm_type llama3 and wrote that template: its headers are no tokens here but "
        "plain letters, and answers are noise (OpenBMB/MiniCPM-V#141)",
        ("template", "<|start_header_id|>", "<|eot_id|>", "<|im_start|>"),
    ),
    Case(
        "merge_without_resampler_4_5",
        said_to_merge_4_5(merging(ADAPTERS_4_5 / "official")),
        "Merged by a script that adds the low ranks only: the resampler, tower and embeddings that the official "
        "tuning trains whole stayed those of the base (OpenBMB/MiniCPM-V#272)",
        ("resampler", "vpm", "embed_tokens", "modules_to_save"),
    ),
    Case(
        "features_miscounted_4_5",
        alone_4_5(setting(PREPROCESSOR, "image_feature_size", 64)),
        "preprocessor_config.json was copied from the release: it writes 64 places for each picture where query_num "
        "is 16, and the official code stops at its own check (OpenBMB/MiniCPM-V#408)",
        ("image_feature_size", "query_num", "64"),
    ),
    Case(
        "tokenizer_of_the_language_model_4_5",
        alone_4_5(all_of(on_json(TOKENIZER, _without_markers), on_json(TOKENIZER_CONFIG, _without_listed_markers))),
        "Told to copy the original tokenizer over the saved one, somebody took that of the language model inside: "
        "<image> and its kin are no tokens, and no picture finds its place (hiyouga/LlamaFactory#5476)",
        ("<image>", "</image>", "tokenizer.json", "added_tokens", "marker"),
    ),
)
