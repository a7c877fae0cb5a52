"""Merges of adapters into 4.6 and 4.5: what was forgotten, counted wrongly, or only looks so."""

from pathlib import Path

import torch

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.eighth_adapters_editing import merged_rank_stabilised, merged_with, taking_modules
from benchmarks.unseen.fourth_editing import ADAPTERS_4_5, BASE_4_5, CONFIG, merging, to_type
from benchmarks.unseen.third_4_6_editing import (
    ADAPTERS,
    BASE,
    MERGED,
    all_of,
    alone,
    copied,
    on_json,
    read_json,
    read_lora,
    read_tensors,
    said_to_merge,
    setting,
    sharded,
    without_tensors,
    write_json,
    write_tensors,
)

JSON, OFFICIAL, OFFICIAL_4_5 = ADAPTERS / "json", ADAPTERS / "official", ADAPTERS_4_5 / "official"


def save_without_unloading(folder: Path) -> None:
    """Save the wrapped model instead of the merged one: base layers and factors under PEFT's names."""
    tensors, factors = read_tensors(folder), read_lora(JSON)
    short = {name.removeprefix("base_model.model."): one for name, one in factors.items()}
    targets = {name.partition(".lora_")[0] for name in short}
    whole = {
        name.replace(".weight", ".base_layer.weight") if name.removesuffix(".weight") in targets else name: one
        for name, one in tensors.items()
    }
    write_tensors(
        folder, whole | {name.replace(".weight", ".default.weight"): one.clone() for name, one in short.items()}
    )


def write_v5_settings(folder: Path) -> None:
    """Write what transformers 5 writes in place of older keys."""
    config = read_json(folder / CONFIG)
    config["dtype"] = config.pop("torch_dtype")
    config["rope_parameters"] = {"rope_theta": config["rope_theta"], "rope_type": "default"}
    write_json(folder / CONFIG, {**config, "transformers_version": "5.14.1"})


def merged_4_6_whole(parent: Path) -> Bundle:
    """Merge the adapter with whole modules, in several files."""
    model = copied(BASE, parent, "tuned-official")
    all_of(merging(OFFICIAL), taking_modules(OFFICIAL), sharded(2))(model)
    return Bundle(model, merged_from=(BASE, OFFICIAL))


QUANTIZATION = {
    "load_in_4bit": True,
    "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "quant_method": "bitsandbytes",
}

BROKEN = (
    Case(
        "merge_changed_nothing",
        said_to_merge(lambda _: None, BASE),
        "`merge_and_unload` ran over an adapter that had found no place; the result is the base to the last bit. "
        "(OpenBMB/MiniCPM-V#559)",
        ("in_proj_qkv", "q_proj", "identical", "not merged", "same as", "equals"),
    ),
    Case(
        "merge_ignored_rslora",
        merged_rank_stabilised(0.25),
        "The merging tool divided alpha by the rank where the adapter says `use_rslora`; a quarter of the update is "
        "left. (paiml/aprender#2189, NVIDIA/TensorRT-LLM#1668)",
        ("rslora", "scale", "scaling", "factor", "0.25", "q_proj"),
    ),
    Case(
        "merge_skipped_feed_forward",
        merged_with(JSON, BASE, merging(JSON, only=lambda name: ".mlp." not in name)),
        "The merging script went over attention modules only; the adapter's updates of the feed-forward layers are "
        "missing, and answers fall back to the base's form.",
        ("mlp", "gate_proj", "up_proj", "down_proj"),
    ),
    Case(
        "merge_without_whole_modules",
        merged_with(OFFICIAL, BASE, merging(OFFICIAL)),
        "The export merged the factors and forgot the modules that were tuned whole, so that embeddings and the "
        "merger of pictures are the base's. (unslothai/unsloth-zoo#369, modelscope/ms-swift#9187)",
        ("merger", "embed_tokens", "modules_to_save"),
    ),
    Case(
        "merge_saved_wrapped",
        alone(save_without_unloading, with_base=True),
        "The wrapped model was saved instead of the merged one: weights are called `base_layer`, factors lie beside "
        "them, and nothing fills the projections. (huggingface/peft#1381)",
        ("base_layer", "lora_A", "lora_B", "in_proj_qkv", "missing"),
    ),
    Case(
        "merge_with_leftover_4_bit_setting",
        said_to_merge(setting(CONFIG, "quantization_config", QUANTIZATION)),
        "QLoRA's `quantization_config` stayed in the config of a merge in 16 bits; it cannot be loaded without the "
        "quantizer, though nothing is quantized. (unslothai/unsloth#1601)",
        ("quantization_config", "bitsandbytes", "4bit", "4-bit", "quantiz"),
    ),
    Case(
        "merge_says_tied",
        alone(
            all_of(
                setting(CONFIG, "tie_word_embeddings", True),
                setting(CONFIG, "text_config.tie_word_embeddings", True),
                without_tensors("lm_head"),
            ),
            MERGED,
            with_base=True,
        ),
        "The exporter believed head and embeddings to be tied and dropped the head; every token is read off the "
        "embeddings, and answers are garbage. (huggingface/transformers#45127, vllm-project/vllm#51063)",
        ("tie_word_embeddings", "lm_head", "tied"),
    ),
    Case(
        "merged_twice",
        said_to_merge(merging(JSON), MERGED),
        "The export was started again on its own result, so that the adapter is in twice and overshoots.",
        ("twice", "scale", "factor", "q_proj", "in_proj_qkv", "2.0"),
    ),
)

HARMLESS = (
    Case(
        "merge_of_rslora",
        merged_rank_stabilised(1.0),
        "A correct merge of an adapter with `use_rslora`; only tools that ignore the setting expect less.",
    ),
    Case(
        "merge_of_whole_modules_in_two_files",
        merged_4_6_whole,
        "A correct merge of factors and of modules that were tuned whole, split into two files.",
    ),
    Case(
        "merge_of_4_5_with_new_settings",
        merged_with(OFFICIAL_4_5, BASE_4_5, merging(OFFICIAL_4_5), taking_modules(OFFICIAL_4_5), write_v5_settings),
        "Merged under transformers 5, which writes `dtype` and `rope_parameters` in place of older keys.",
    ),
    Case(
        "merge_in_single_precision",
        said_to_merge(
            all_of(
                to_type(torch.float32),
                merging(JSON),
                on_json(CONFIG, lambda content: content.update(dtype="float32")),
            ),
            BASE,
        ),
        "Merged on a CPU and kept in float32, twice the size; answers are those of the adapter.",
    ),
)
