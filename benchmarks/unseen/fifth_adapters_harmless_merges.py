"""Sound merges of adapters of 4.6 that look unusual."""

from pathlib import Path

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fifth_adapters_editing import (
    JSON,
    OFFICIAL,
    RANK,
    TOKENS,
    merge_of,
    merge_of_changed,
    to_dora,
    whole_merge,
    with_config,
    with_settings,
)
from benchmarks.unseen.fourth_editing import CONFIG, merging, to_type, trainer_leftovers, with_rows, zero_row
from benchmarks.unseen.third_4_6_editing import (
    EMBEDDINGS,
    HEAD,
    Tensors,
    all_of,
    on_tensors,
    read_lora,
    setting,
    sharded,
    target_of,
)


def _in_half_precision(tensors: Tensors) -> None:
    factors = read_lora(JSON)
    for name, first in factors.items():
        if "lora_A" in name:
            product = factors[name.replace("lora_A", "lora_B")].bfloat16() @ first.bfloat16()
            target = target_of(name)
            tensors[target] = tensors[target].bfloat16() + 2 * product


def _merged(model: Path, _: Path) -> None:
    merging(JSON)(model)


def _with_prediction_head(tensors: Tensors) -> None:
    tensors["mtp.fc.weight"] = torch.zeros(128, 256, dtype=torch.bfloat16)
    tensors["mtp.norm.weight"] = torch.ones(128, dtype=torch.bfloat16)


CASES = (
    Case(
        "merged_in_bfloat16",
        merge_of(JSON, on_tensors(_in_half_precision)),
        "The merge was computed in bfloat16 throughout, as on a GPU; sums differ in the last bits, and answers do not. "
        "(hiyouga/LlamaFactory#3096)",
    ),
    Case(
        "merged_and_kept_in_float32",
        merge_of(JSON, all_of(to_type(torch.float32), merging(JSON), setting(CONFIG, "dtype", "float32"))),
        "The merge was loaded and saved in float32; the file is twice as long, and nothing is rounded.",
    ),
    Case(
        "merged_to_float16",
        merge_of(JSON, all_of(merging(JSON), to_type(torch.float16), setting(CONFIG, "dtype", "float16"))),
        "The merge was saved in float16 for an older GPU; the weights are small enough for it.",
    ),
    Case(
        "merged_with_tokens_and_rows",
        merge_of(TOKENS, whole_merge(TOKENS), with_base=True),
        "Everything was merged: factors, trained rows, and the tokenizer with the new tokens. Only the base is given.",
    ),
    Case(
        "merged_with_whole_modules",
        merge_of(OFFICIAL, whole_merge(OFFICIAL)),
        "Factors, embeddings and both picture mergers of the adapter were merged. (huggingface/peft#2647)",
    ),
    Case(
        "merged_and_padded",
        merge_of(
            JSON,
            all_of(
                merging(JSON),
                with_rows(896, zero_row, HEAD, EMBEDDINGS),
                setting(CONFIG, "text_config.vocab_size", 896),
            ),
        ),
        "The vocabulary was padded to a multiple of 128 for speed; rows of no token are zeros, and are never chosen.",
    ),
    Case(
        "merged_by_the_root_of_the_rank",
        merge_of_changed(with_settings({"use_rslora": True, "lora_alpha": 2 * RANK**0.5}), _merged),
        "The adapter's scale goes by the root of its rank, and was merged so. (NVIDIA/TensorRT-LLM#1668)",
    ),
    Case(
        "merged_dora",
        merge_of_changed(to_dora, _merged),
        "The adapter is DoRA, and was merged with its magnitudes. (modelscope/ms-swift#6620)",
    ),
    Case(
        "merged_with_a_head_for_prediction",
        merge_of(JSON, all_of(merging(JSON), on_tensors(_with_prediction_head))),
        "The release has layers that guess further tokens, which the library never builds; merging by hand kept "
        "them in the file. (2U1/Qwen-VL-Series-Finetune#259)",
    ),
    Case(
        "merged_in_shards_beside_leftovers",
        merge_of(JSON, all_of(merging(JSON), sharded(3), trainer_leftovers)),
        "Saved in shards with an index, in a folder where the trainer had left its own files.",
    ),
    Case(
        "merged_after_checkpointing",
        merge_of(
            JSON,
            all_of(
                merging(JSON),
                with_config({"use_cache": False, "_name_or_path": "outputs/merged", "quantization_config": None}),
                setting(CONFIG, "text_config.use_cache", False),
            ),
        ),
        "Training with gradient checkpointing left the cache off in the settings, and a path of its own; answers are "
        "slower, and the same.",
    ),
)
