"""Adapters and merges that look suspicious and answer as well as ever."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.third_4_6_adapters import save_whole
from benchmarks.unseen.third_4_6_editing import (
    ADAPTERS,
    BASE,
    EMBEDDINGS,
    HEAD,
    MARKUP,
    adapted,
    all_of,
    copied,
    deltas,
    halve_ranks_of_mlp,
    mapped,
    on_json,
    read_json,
    read_lora,
    read_tensors,
    renamed,
    said_to_merge,
    setting,
    taking,
    target_of,
    with_tokens,
    without_files,
    without_setting,
    write_json,
    write_tensors,
)
from benchmarks.unseen.third_4_6_harmless_models import fake_quantise
from benchmarks.unseen.third_4_6_merges import merged_tokens

CONFIG = "adapter_config.json"
KEYS_OF_OLD_PEFT = (
    *("base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "init_lora_weights", "lora_alpha"),
    *("lora_dropout", "modules_to_save", "peft_type", "r", "target_modules", "task_type"),
)
LANGUAGE_PATTERN = r"^model\.language_model\..*\.(q_proj|k_proj|v_proj|o_proj|in_proj_\w+|gate_proj|up_proj|down_proj)$"


def _double_rank(folder: Path) -> None:
    """Pad every factor with zeros, as when adapters of different ranks are brought to one."""
    padded = {
        name: torch.cat([tensor, torch.zeros_like(tensor)], dim=0 if "lora_A" in name else 1)
        for name, tensor in read_tensors(folder).items()
    }
    write_tensors(folder, padded)
    write_json(folder / CONFIG, {**read_json(folder / CONFIG), "r": 16, "lora_alpha": 32})


def _stabilise_rank(folder: Path) -> None:
    """The same scale as alpha over the root of the rank."""
    write_json(folder / CONFIG, {**read_json(folder / CONFIG), "use_rslora": True, "lora_alpha": 2 * 8**0.5})


def _own_alpha_for_mlp(folder: Path) -> None:
    mapped(lambda tensor: tensor / 2, "gate_proj.lora_B", "up_proj.lora_B", "down_proj.lora_B")(folder)
    setting(CONFIG, "alpha_pattern", dict.fromkeys(("gate_proj", "up_proj", "down_proj"), 32))(folder)


def _decompose(folder: Path) -> None:
    """Write the adapter as DoRA, its magnitudes those of the adapted weights."""
    weights, tensors = read_tensors(BASE), read_tensors(folder)
    for name, update in deltas(folder).items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        tensors[f"{stem}.lora_magnitude_vector"] = (weights[name].float() + update).norm(dim=1)
    write_tensors(folder, tensors)
    setting(CONFIG, "use_dora", True)(folder)


def _as_old_peft(folder: Path) -> None:
    config = {key: value for key, value in read_json(folder / CONFIG).items() if key in KEYS_OF_OLD_PEFT}
    write_json(folder / CONFIG, {**config, "base_model_name_or_path": "/mnt/nas/models/MiniCPM-V-4_6"})


def _with_plain_embeddings(folder: Path) -> None:
    """As PEFT saves where it believes that the vocabulary was resized."""
    plain = read_tensors(BASE)
    tensors = read_tensors(folder)
    for name in (EMBEDDINGS, HEAD):
        tensors[f"base_model.model.{name}"] = plain[name]
    write_tensors(folder, tensors)


def _add_as_words(content: dict[str, Any]) -> None:
    for one in content["added_tokens"]:
        one["special"] = one["special"] and one["content"] not in MARKUP


def _resave_tokenizer(folder: Path) -> None:
    """The base's tokenizer with tokens that the trainer adds whether or not anything uses them."""
    for file in ("tokenizer.json", "tokenizer_config.json"):
        taking(file, BASE)(folder)
    with_tokens("<|unused_0|>", "<|unused_1|>")(folder)


def _two_adapters(parent: Path) -> Bundle:
    names = ("json", "tokens")
    return Bundle(BASE, {name: copied(ADAPTERS / name, parent) for name in names}, base=BASE)


def _merge_in_bfloat16(folder: Path) -> None:
    tensors, factors = read_tensors(BASE), read_lora(ADAPTERS / "json")
    for name in [one for one in factors if "lora_A" in one]:
        update = 2 * (factors[name.replace("lora_A", "lora_B")] @ factors[name])
        tensors[target_of(name)] += update
    write_tensors(folder, tensors)


def _merge_into_rounded(folder: Path) -> None:
    tensors = read_tensors(BASE)
    fake_quantise(tensors)
    for name, update in deltas().items():
        tensors[name] = (tensors[name].float() + update).to(torch.bfloat16)
    write_tensors(folder, tensors)


CASES = (
    Case("ranks_padded", adapted(_double_rank), "Rank 16, of which half is zero, and alpha 32: 36 of 36 right."),
    Case(
        "rank_stabilised",
        adapted(_stabilise_rank),
        "use_rslora with an alpha that is no whole number and gives the same scale: 36 of 36 right as before.",
    ),
    Case(
        "alpha_by_module",
        adapted(_own_alpha_for_mlp),
        "An alpha_pattern for the feed-forward layers, whose factors are half as large: 36 of 36 right as before.",
    ),
    Case(
        "rank_by_module",
        adapted(halve_ranks_of_mlp, with_base=True),
        "Feed-forward factors compressed to rank 4 under a rank_pattern: 36 of 36 right as before.",
    ),
    Case("weight_decomposed", adapted(_decompose), "The same adapter written as DoRA: 36 of 36 right as before."),
    Case(
        "names_with_adapter_name",
        adapted(renamed(lambda name: name.replace(".weight", ".default.weight"))),
        "Names from a state_dict, with the adapter's name in them, which PEFT takes as well: 36 of 36 right.",
    ),
    Case(
        "adapter_in_float32",
        adapted(mapped(lambda tensor: tensor.float(), ""), "tokens"),
        "A trainer kept the adapter in float32: 36 of 36 right as before.",
    ),
    Case(
        "targets_as_a_pattern",
        adapted(all_of(setting(CONFIG, "target_modules", LANGUAGE_PATTERN), setting(CONFIG, "exclude_modules", None))),
        "ms-swift writes its targets as one pattern: 36 of 36 right as before.",
    ),
    Case(
        "config_of_old_peft",
        adapted(_as_old_peft),
        "A config without the newer keys, exclude_modules among them, so that the tower's projections get factors "
        "that the file lacks and that stay zero: 36 of 36 right as before.",
    ),
    Case(
        "base_matrices_saved_along",
        adapted(_with_plain_embeddings),
        "PEFT took the vocabulary for resized and saved both matrices of the base along: 36 of 36 right.",
    ),
    Case(
        "unused_tokens_in_its_tokenizer",
        adapted(_resave_tokenizer),
        "The adapter ships a tokenizer with two tokens more, which no answer has: 36 of 36 right as before.",
    ),
    Case(
        "markup_saved_whole",
        adapted(save_whole((EMBEDDINGS, HEAD)), "tokens"),
        "Both matrices in modules_to_save instead of the six trained rows: 36 of 36 right as before.",
    ),
    Case(
        "markup_not_special",
        adapted(on_json("tokenizer.json", _add_as_words), "tokens"),
        "The six tokens were added as words and not as special tokens: 36 of 36 right as before.",
    ),
    Case(
        "names_of_placeholders_lost_in_adapter",
        adapted(without_setting("tokenizer_config.json", "extra_special_tokens"), "official"),
        "The adapter's tokenizer was saved by a trainer that drops the names of placeholders; the base still has "
        "them: 34 of 36 right as before.",
    ),
    Case(
        "whole_modules_without_tokenizer",
        adapted(without_files("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"), "official"),
        "It added no token, and ships no tokenizer: 34 of 36 right as before.",
    ),
    Case(
        "two_adapters", _two_adapters, "Both on one base, which is given as what they were tuned from: 36 of 36 each."
    ),
    Case(
        "markup_merged",
        merged_tokens((EMBEDDINGS, HEAD)),
        "New tokens, really trained, merged with their rows and their tokenizer: 36 of 36 right.",
    ),
    Case(
        "merged_in_bfloat16",
        said_to_merge(_merge_in_bfloat16),
        "Merged in bfloat16 on a small GPU, rounded at each step: 36 of 36 right as before.",
    ),
    Case(
        "merged_into_rounded_base",
        said_to_merge(_merge_into_rounded),
        "Merged into the dequantised 4-bit base that it was trained on, as QLoRA does: 36 of 36 right as before.",
    ),
)
