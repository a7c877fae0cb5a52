"""Sound models of the 4.5 demo that look unusual."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import (
    ADAPTERS_4_5,
    BASE_4_5,
    CONFIG,
    TOKENIZER_CONFIG,
    alone_4_5,
    merging,
    said_to_merge_4_5,
    saved_modules,
    to_type,
)
from benchmarks.unseen.third_4_6_editing import (
    MODEL_WEIGHTS,
    Tensors,
    all_of,
    copied,
    on_json,
    on_tensors,
    sharded,
    without_files,
)

OFFICIAL = ADAPTERS_4_5 / "official"
MODULES = (
    "configuration_minicpm",
    "modeling_minicpmv",
    "processing_minicpmv",
    "resampler",
    "tokenization_minicpmv_fast",
)


def _with_remote_code(folder: Path) -> None:
    for name in MODULES:
        (folder / f"{name}.py").write_text('raise ImportError("flash_attn is not installed")\n', encoding="utf-8")
    cached = folder / "__pycache__"
    cached.mkdir()
    (cached / "modeling_minicpmv.cpython-310.pyc").write_bytes(b"\x6f\r\r\n")


def _with_stale_index(folder: Path) -> None:
    """Leave the index of shards that are gone beside the one file that they were joined in."""
    whole = (folder / MODEL_WEIGHTS).read_bytes()
    sharded(4)(folder)
    for shard in folder.glob("model-*-of-*.safetensors"):
        shard.unlink()
    (folder / MODEL_WEIGHTS).write_bytes(whole)


def _with_default_thinking(content: dict[str, Any]) -> None:
    content["chat_template"] = (
        "{%- set enable_thinking = enable_thinking | default(false) %}\n" + content["chat_template"]
    )


def _told_twice(content: dict[str, Any]) -> None:
    content["rope_parameters"] = {"rope_type": "default", "rope_theta": 1000000}
    content["dtype"] = content["torch_dtype"]
    content["transformers_version"] = "5.3.0"


def _as_trainers_do(content: dict[str, Any]) -> None:
    content.update(
        _name_or_path="/root/.cache/modelscope/hub/OpenBMB/MiniCPM-V-4_5",
        _attn_implementation_autoset=True,
        pretraining_tp=1,
        keys_to_ignore_at_inference=["past_key_values"],
        pad_token_id=749,
    )


def _with_saved_modules(tensors: Tensors) -> None:
    for name, one in saved_modules(OFFICIAL).items():
        if name not in tensors:
            raise ValueError(f"no {name}")
        tensors[name] = one.to(tensors[name].dtype)


def _in_a_folder_of_its_own_name(parent: Path) -> Bundle:
    return Bundle(copied(BASE_4_5, parent, "MiniCPM-V-4.5 微调（最终版）"))


CASES: tuple[Case, ...] = (
    Case(
        "half_precision_4_5",
        alone_4_5(
            all_of(to_type(torch.float16), on_json(CONFIG, lambda content: content.update(torch_dtype="float16")))
        ),
        "Exported in float16 for cards without bfloat16, and said so; every value fits "
        "(intel/llm-scaler#144 serves it so)",
    ),
    Case(
        "remote_code_beside_4_5",
        alone_4_5(_with_remote_code),
        "The modules of the official repository lie beside the weights and want a package that is missing; who builds "
        "the model from its own code runs none of them (OpenBMB/MiniCPM-V#767)",
    ),
    Case(
        "one_tokenizer_file_4_5",
        alone_4_5(without_files("vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json")),
        "Saved by transformers 5, which writes tokenizer.json and tokenizer_config.json and none of the older files; "
        "all is in these two",
    ),
    Case(
        "base_of_positions_told_twice_4_5",
        alone_4_5(on_json(CONFIG, _told_twice)),
        "Written for both generations of transformers: rope_theta and rope_parameters, torch_dtype and dtype, with "
        "equal values (vllm-project/vllm#28542)",
    ),
    Case(
        "thinking_off_by_default_4_5",
        alone_4_5(on_json(TOKENIZER_CONFIG, _with_default_thinking), with_base=True),
        "Served elsewhere, the template was given a first line that switches thinking off unless a request asks for "
        "it; who says so anyway sees no difference (OpenBMB/MiniCPM-V#988)",
    ),
    Case(
        "stale_index_4_5",
        alone_4_5(_with_stale_index),
        "The shards were joined in one file and deleted, but their index stayed; loaders take the one file first "
        "(Neph0s/CoSER#3)",
    ),
    Case(
        "folder_named_in_chinese_4_5",
        _in_a_folder_of_its_own_name,
        "The folder was renamed to something with Chinese, dots, spaces and brackets; only remote code minds dots",
    ),
    Case(
        "fields_of_trainers_4_5",
        alone_4_5(on_json(CONFIG, _as_trainers_do), with_base=True),
        "A trainer wrote where it found the model, and settings that are defaults, into config.json "
        "(modelscope/ms-swift#1006)",
    ),
    Case(
        "whole_merge_4_5",
        said_to_merge_4_5(all_of(merging(OFFICIAL), on_tensors(_with_saved_modules))),
        "Merged in full: low ranks added, and resampler, tower and embeddings taken from the adapter "
        "(OpenBMB/MiniCPM-V#272 asks for it)",
    ),
)
