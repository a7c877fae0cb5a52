"""Broken adapters and merges over the base of 4.5."""

import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import (
    ADAPTER_CONFIG,
    ADAPTERS_4_5,
    TOKENIZER,
    TOKENIZER_CONFIG,
    adapted_4_5,
    merging,
    said_to_merge_4_5,
    saved_modules,
)
from benchmarks.unseen.third_4_6_editing import (
    ADAPTER_WEIGHTS,
    BASE,
    Tensors,
    all_of,
    copied,
    mapped,
    on_json,
    on_tensors,
    read_tensors,
    renamed,
    setting,
    without_setting,
    write_tensors,
)

OFFICIAL = ADAPTERS_4_5 / "official"
SAVED = ("embed_tokens", "resampler", "vpm")
BESIDE = "vpm_resampler_embedtokens.pt"


def _saved_modules_beside(folder: Path) -> None:
    """Move the whole copies into the file that older scripts wrote them to."""
    tensors = read_tensors(folder)
    kept = {name: one for name, one in tensors.items() if ".lora_" in name}
    others = {name.removeprefix("base_model.model."): one for name, one in tensors.items() if name not in kept}
    torch.save(others, folder / BESIDE)
    write_tensors(folder, kept)


def _to_cache_link(folder: Path) -> None:
    (folder / ADAPTER_WEIGHTS).unlink()
    (folder / ADAPTER_WEIGHTS).symlink_to(Path("..", "..", "blobs", "9f" * 32))


def _wrapped(name: str) -> str:
    """Name a whole copy as the wrapper around it does, with the adapter's name."""
    if ".lora_" in name:
        return name
    for module in SAVED:
        name = name.replace(f".{module}.", f".{module}.modules_to_save.default.")
    return name


def _without_picture_tokens(folder: Path) -> None:
    """Keep the tokens that Qwen knows, as saved by the class of Qwen's tokenizer."""
    content = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
    content["added_tokens"] = [one for one in content["added_tokens"] if one["id"] < 758]
    (folder / TOKENIZER).write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")

    def fewer(settings: dict[str, Any]) -> None:
        decoder = settings["added_tokens_decoder"]
        settings["added_tokens_decoder"] = {key: one for key, one in decoder.items() if int(key) < 758}
        settings["additional_special_tokens"] = ["<|im_start|>", "<|im_end|>"]
        settings["tokenizer_class"] = "Qwen2TokenizerFast"
        settings.pop("auto_map", None)

    on_json(TOKENIZER_CONFIG, fewer)(folder)
    for file in ("added_tokens.json", "special_tokens_map.json"):
        (folder / file).unlink()


def _on_another_release(parent: Path) -> Bundle:
    return Bundle(BASE, {"official": copied(OFFICIAL, parent)})


def _saved(tensors: Tensors) -> None:
    tensors.update({name: one for name, one in saved_modules(OFFICIAL).items() if name in tensors})


def _language_model_only(tensors: Tensors) -> Tensors:
    return {name.removeprefix("llm."): one for name, one in tensors.items() if name.startswith("llm.")}


def _empty_patches(tensors: Tensors) -> None:
    tensors["vpm.embeddings.patch_embedding.weight"] = torch.zeros(0, dtype=torch.bfloat16)


def _overflown(tensor: torch.Tensor) -> torch.Tensor:
    return torch.full_like(tensor, float("nan"))


CASES: tuple[Case, ...] = (
    Case(
        "vision_and_embeddings_in_a_file_beside",
        adapted_4_5(all_of(_saved_modules_beside, setting(ADAPTER_CONFIG, "modules_to_save", None))),
        "The older official script kept tower, resampler and embeddings in vpm_resampler_embedtokens.pt, which PEFT "
        "does not read: the factors meet modules that they were not trained with (OpenBMB/MiniCPM-V#272).",
        ("vpm", "resampler", "embed_tokens"),
    ),
    Case(
        "weights_are_a_link_into_a_cache",
        adapted_4_5(_to_cache_link),
        "A snapshot of the hub's cache was copied into the image with its links: adapter_model.safetensors leads to a "
        "blob that is not there (infiniflow/ragflow#3584).",
        ("adapter_model", "link", "blob"),
    ),
    Case(
        "saved_modules_named_as_wrapped",
        adapted_4_5(renamed(_wrapped)),
        "The trainer's state was saved in place of what PEFT makes of it: the whole copies have the wrapper's name in "
        "theirs, and PEFT finds none of those that it looks for.",
        ("modules_to_save", "resampler", "vpm", "embed_tokens"),
    ),
    Case(
        "adapter_tokenizer_lost_its_template",
        adapted_4_5(without_setting(TOKENIZER_CONFIG, "chat_template")),
        "The trainer saved the tokenizer without its chat template, and these files take the place of the base's, so "
        "that no message can be rendered (hiyouga/LlamaFactory#8399).",
        ("chat_template", "template"),
    ),
    Case(
        "adapter_tokenizer_of_the_language_model_only",
        adapted_4_5(_without_picture_tokens),
        "Saved by Qwen's own tokenizer class, which the trainer fell back to: the tokens around pictures are gone, and "
        "no picture finds its place.",
        ("<image>", "</image>", "<unk>", "<slice>"),
    ),
    Case(
        "adapter_of_another_release",
        _on_another_release,
        "An adapter trained on 4.5 is mounted on 4.6, whose layers have other names and sizes; nothing fits "
        "(ymcui/Chinese-LLaMA-Alpaca-2#360).",
        ("llm.", "target_modules", "resampler", "vpm", "self_attn"),
    ),
    Case(
        "merge_saved_the_language_model_only",
        said_to_merge_4_5(all_of(on_tensors(_saved), merging(OFFICIAL), on_tensors(_language_model_only))),
        "`merged.llm.save_pretrained` wrote the language model alone beside the settings of the whole: the names lack "
        "`llm.`, tower and resampler are not there.",
        ("llm.", "vpm", "resampler"),
    ),
    Case(
        "merge_under_zero3_emptied_the_patches",
        said_to_merge_4_5(all_of(on_tensors(_saved), merging(OFFICIAL), on_tensors(_empty_patches))),
        "Merged while ZeRO-3 had the tower's first layer on another card: its weight has no element, and it cannot be "
        "loaded (modelscope/ms-swift#1778).",
        ("patch_embedding", "vpm.embeddings"),
    ),
    Case(
        "resampler_overflown_in_half_precision",
        adapted_4_5(mapped(_overflown, "resampler.")),
        "Trained in fp16, where the resampler overflowed while the factors stayed finite: its copy is NaN, and every "
        "answer about a picture is garbage (OpenBMB/MiniCPM-V#346).",
        ("resampler", "nan", "finite"),
    ),
)
"""Cases over the base of 4.5."""
