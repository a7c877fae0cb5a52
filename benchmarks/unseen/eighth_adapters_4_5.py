"""Adapters of 4.5, whose official training tunes whole modules beside the factors."""

from pathlib import Path

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    ADAPTER_CONFIG,
    TEMPLATE,
    TOKENIZER_CONFIG,
    adapted_4_5,
    to_type,
)
from benchmarks.unseen.third_4_6_editing import (
    all_of,
    mapped,
    read_json,
    read_tensors,
    renamed,
    setting,
    without_files,
    without_setting,
    without_tensors,
    write_json,
    write_tensors,
)


def save_modules_apart(folder: Path) -> None:
    """Write whole modules into a file of their own, as the first official script did."""
    tensors = read_tensors(folder)
    apart = {name.removeprefix("base_model.model."): one for name, one in tensors.items() if ".lora_" not in name}
    torch.save(apart, folder / "vpm_resampler_embedtokens.pt")
    write_tensors(folder, {name: one for name, one in tensors.items() if ".lora_" in name})
    setting(ADAPTER_CONFIG, "modules_to_save", None)(folder)


def save_as_transformers_5(folder: Path) -> None:
    """Leave the files that transformers 5 writes for a tokenizer."""
    config = read_json(folder / TOKENIZER_CONFIG)
    (folder / TEMPLATE).write_text(config.pop("chat_template"), encoding="utf-8")
    config["extra_special_tokens"] = config.pop("additional_special_tokens")
    for key in ("added_tokens_decoder", "auto_map"):
        config.pop(key)
    write_json(
        folder / TOKENIZER_CONFIG,
        {**config, "backend": "tokenizers", "is_local": True, "tokenizer_class": "TokenizersBackend"},
    )
    without_files("added_tokens.json", "special_tokens_map.json", "vocab.json", "merges.txt")(folder)


def move_template(folder: Path) -> None:
    """Move the template into a file, as transformers does since 4.50."""
    config = read_json(folder / TOKENIZER_CONFIG)
    (folder / TEMPLATE).write_text(config.pop("chat_template"), encoding="utf-8")
    write_json(folder / TOKENIZER_CONFIG, config)


BROKEN = (
    Case(
        "modules_in_a_file_apart",
        adapted_4_5(save_modules_apart),
        "The first official script wrote vision tower, resampler and embeddings to `vpm_resampler_embedtokens.pt`, "
        "which nothing loads; the factors run on the untuned rest. (OpenBMB/MiniCPM-V#272)",
        ("vpm_resampler_embedtokens", "resampler", "embed_tokens", "vpm"),
    ),
    Case(
        "zero_3_empty_modules",
        adapted_4_5(mapped(lambda one: one.new_zeros(0), "resampler", "vpm", "embed_tokens")),
        "ZeRO-3 saved the whole modules without gathering them: their tensors are empty, and the adapter cannot be "
        "loaded. (huggingface/peft#2450)",
        ("resampler", "vpm", "embed_tokens", "size mismatch", "empty"),
    ),
    Case(
        "adapter_was_called_lora",
        adapted_4_5(renamed(lambda name: name.replace(".lora_", "_"))),
        "Trained under the name `lora`, which PEFT cut out of every tensor's name on saving; no factor finds its "
        "place. (huggingface/peft#2699)",
        ("q_proj_A", "q_proj", "lora_A", "lora_B", "q_proj_B"),
    ),
    Case(
        "diverged_to_nan",
        adapted_4_5(mapped(lambda one: one * float("nan"), "lora_")),
        "Training diverged without anybody looking at the loss, and each factor is NaN; answers are one token over "
        "and over. (getainode/ainode#186)",
        ("nan", "finite", "lora_A", "lora_B"),
    ),
    Case(
        "config_lost_its_template",
        adapted_4_5(without_setting(TOKENIZER_CONFIG, "chat_template")),
        "The trainer saved the tokenizer without its chat template, and its config replaces the base's; no "
        "conversation can be rendered. (hiyouga/LlamaFactory#8399)",
        ("chat_template", "chat template", "template"),
    ),
    Case(
        "only_the_modules_were_saved",
        adapted_4_5(without_tensors("lora_")),
        "The trainer saved modules that were tuned whole but not the factors; attention is the base's.",
        ("lora_A", "lora_B", "q_proj", "self_attn"),
    ),
)

HARMLESS = (
    Case(
        "tokenizer_of_transformers_5",
        adapted_4_5(save_as_transformers_5),
        "transformers 5 writes one tokenizer.json, a short config and a template, and names its own backend as the "
        "class, which worries tools of version 4. (unslothai/unsloth#8444)",
    ),
    Case(
        "template_moved_into_a_file",
        adapted_4_5(move_template),
        "Newer transformers move the template out of the config into a file; it is the same text. "
        "(arcee-ai/mergekit#589)",
    ),
    Case(
        "single_precision_factors",
        adapted_4_5(to_type(torch.float32)),
        "PEFT trains factors in float32 and a trainer saved them so, twice the size.",
    ),
    Case(
        "trained_on_a_4_bit_twin",
        adapted_4_5(
            all_of(
                setting(ADAPTER_CONFIG, "base_model_name_or_path", "unsloth/MiniCPM-V-4_5-unsloth-bnb-4bit"),
                setting(ADAPTER_CONFIG, "auto_mapping", None),
                setting(ADAPTER_CONFIG, "task_type", "CAUSAL_LM"),
                without_setting(ADAPTER_CONFIG, "peft_version"),
            )
        ),
        "Trained on the same base in 4 bits, which the config names; on the base itself it does as well.",
    ),
)
