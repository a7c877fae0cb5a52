"""Broken models of the demo of 4.5, whole: weights, settings, tokenizer, template, pictures."""

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
    saved_modules,
)
from benchmarks.unseen.third_4_6_editing import (
    INDEX,
    Tensors,
    all_of,
    mapped,
    on_json,
    on_tensors,
    read_json,
    setting,
    sharded,
    without_files,
    without_setting,
    without_tensors,
)

LAYERS = "llm.model.layers."
LAST_TURN_ONLY = """\
{%- set message = messages[-1] -%}
{{- '<|im_start|>user\\n' ~ message.content ~ '<|im_end|>\\n' -}}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' -}}
{%- endif -%}
"""


def _shift_the_flat_buffer(tensors: Tensors) -> None:
    """Cut the layers' tensors out of their flat buffer from some places too late, as with a forgotten parameter."""
    names = [name for name in tensors if name.startswith(LAYERS)]
    flat = torch.cat([tensors[name].flatten() for name in names]).roll(-64)
    for name, piece in zip(names, torch.split(flat, [tensors[name].numel() for name in names]), strict=True):
        tensors[name] = piece.reshape(tensors[name].shape)


def _lose_a_shard(folder: Path) -> None:
    shards = sorted(set(read_json(folder / INDEX)["weight_map"].values()))
    (folder / shards[1]).unlink()


def _prefix_space(content: dict[str, Any]) -> None:
    for part in content["pre_tokenizer"]["pretokenizers"]:
        if part["type"] == "ByteLevel":
            part["add_prefix_space"] = True


def _permuted_with_too_many_heads(tensors: Tensors) -> None:
    """Reorder the rows of keys for pairs of neighbours with their own heads, and back with the queries' heads."""
    for name in [name for name in tensors if name.endswith("k_proj.weight") and name.startswith(LAYERS)]:
        rows, columns = tensors[name].shape
        there = tensors[name].reshape(2, 2, rows // 4, columns).transpose(1, 2).reshape(rows, columns)
        tensors[name] = there.reshape(4, rows // 8, 2, columns).transpose(1, 2).reshape(rows, columns)


def _plain_pixels(content: dict[str, Any]) -> None:
    content |= {"norm_mean": [0.0, 0.0, 0.0], "norm_std": [1.0, 1.0, 1.0]}


def _with_saved_modules(tensors: Tensors) -> None:
    """Take the modules that the adapter has whole copies of."""
    for name, one in saved_modules(ADAPTERS_4_5 / "official").items():
        tensors[name] = one.to(tensors[name].dtype)


CASES = (
    Case(
        "no_settings_of_pictures",
        alone_4_5(without_files(PREPROCESSOR)),
        "The checkpoint of a full tuning has the model and the tokenizer, but not preprocessor_config.json; no picture "
        "can be prepared (2U1/Qwen-VL-Series-Finetune#34).",
        ("preprocessor_config", "image processor"),
    ),
    Case(
        "queries_and_placeholders_differ",
        alone_4_5(setting(PREPROCESSOR, "image_feature_size", 64)),
        "preprocessor_config.json comes from a release with 64 queries and config.json from this one with 16; 'these "
        "two values should be the same', and pictures cannot be put in their places (OpenBMB/MiniCPM-V#408).",
        ("image_feature_size", "query_num", "queries"),
    ),
    Case(
        "only_the_tuned_vision_saved",
        alone_4_5(without_tensors("llm."), with_base=True),
        "Tuned with tune_vision and without tune_llm, and only what was trained was saved: the language model is "
        "missing from the folder (OpenBMB/MiniCPM-V#601).",
        ("llm.", "missing"),
    ),
    Case(
        "rope_theta_left_out",
        alone_4_5(without_setting(CONFIG, "rope_theta"), with_base=True),
        "A conversion copied every setting but rope_theta, so that the old default of 10000 stands for a million, "
        "or the folder is not taken at all (lyogavin/airllm#369).",
        ("rope_theta", "rope", "10000"),
    ),
    Case(
        "flat_buffer_cut_at_wrong_places",
        alone_4_5(on_tensors(_shift_the_flat_buffer), with_base=True),
        "zero_to_fp32 cut the flat buffer from wrong offsets, as parameters were counted in another order: all shapes "
        "are right and the values are not (deepspeedai/DeepSpeed#1317).",
        ("layers.",),
    ),
    Case(
        "template_renders_the_last_message_only",
        alone_4_5(setting(TOKENIZER_CONFIG, "chat_template", LAST_TURN_ONLY)),
        "The template takes the last message and drops the conversation before it, so that a follow-up question has "
        "lost its picture (mkupermann/souprise#8).",
        ("template", "message", "turn", "history"),
    ),
    Case(
        "merge_weaker_than_said",
        said_to_merge_4_5(all_of(merging(ADAPTERS_4_5 / "official", 1 / 64), on_tensors(_with_saved_modules))),
        "The saved factors came without their alpha and the merger took one for it, so that the update went in at a "
        "sixty-fourth of its strength (larsupb/LoRA-Merger-ComfyUI#17).",
        ("scale", "alpha", "weak", "factor", "strength", f"{LAYERS}", "layers."),
    ),
    Case(
        "all_weights_not_a_number",
        alone_4_5(mapped(lambda tensor: torch.full_like(tensor, float("nan")), ""), with_base=True),
        "A full tuning with FSDP in half precision went to NaN after some steps and was saved all the same; it answers "
        "nothing of use (axolotl-ai-cloud/axolotl#1191).",
        ("nan", "finite"),
    ),
    Case(
        "one_shard_never_arrived",
        alone_4_5(all_of(sharded(3), _lose_a_shard)),
        "A download broke off: the index names three shards and two are there, so that a third of the weights is "
        "missing (sgl-project/sglang#32279).",
        ("model-00002", "shard", INDEX, "missing"),
    ),
    Case(
        "pictures_not_normalised",
        alone_4_5(
            on_json(PREPROCESSOR, lambda content: content.update(norm_mean=[0.0] * 3, norm_std=[1.0] * 3)),
            with_base=True,
        ),
        "Mean 0 and deviation 1 were set where the weights were trained with others: pixels come in the wrong range, "
        "and colours and shapes are misread (neptune-ai/open-solution-mapping-challenge#77).",
        ("norm_mean", "norm_std", "mean", "std"),
    ),
    Case(
        "prefix_space_before_every_piece",
        alone_4_5(on_json(TOKENIZER, _prefix_space)),
        "The byte-level step was rebuilt with its default add_prefix_space, which puts a space after every special "
        "token and piece: prompts become other tokens (huggingface/tokenizers#1174).",
        ("add_prefix_space", "prefix", "pre_tokenizer", "space"),
    ),
    Case(
        "keys_permuted_by_the_wrong_heads",
        alone_4_5(on_tensors(_permuted_with_too_many_heads), with_base=True),
        "Brought back from GGUF by a converter that reordered the rows of k_proj with the number of query heads; "
        "positions are turned wrongly and the model rambles (huggingface/transformers#31788).",
        ("k_proj",),
    ),
    Case(
        "version_of_the_release_before",
        alone_4_5(setting(CONFIG, "version", 4.0)),
        "Weights of 4.5 were tuned with the settings and code of 4.0, another language model: shapes do not fit, and "
        "what can be loaded at all answers nothing (modelscope/ms-swift#5658).",
        ("version", "q_norm", "k_norm", "4.0"),
    ),
)
