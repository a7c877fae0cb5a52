"""Sound models of the demo of 4.5, with what people worried about and what changes no answer."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    ADAPTERS_4_5,
    CONFIG,
    GENERATION,
    TEMPLATE,
    TOKENIZER_CONFIG,
    alone_4_5,
    merging,
    said_to_merge_4_5,
    saved_modules,
    with_rows,
    zero_row,
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
    write_json,
)


def _template_to_its_own_file(folder: Path) -> None:
    content = read_json(folder / TOKENIZER_CONFIG)
    (folder / TEMPLATE).write_text(content.pop("chat_template"), encoding="utf-8")
    write_json(folder / TOKENIZER_CONFIG, content)


def _rope_of_version_five(content: dict[str, Any]) -> None:
    del content["rope_scaling"]
    content["rope_parameters"] = {"rope_type": "default", "rope_theta": content.pop("rope_theta")}


def _padded_rows(folder: Path) -> None:
    with_rows(832, zero_row, "llm.model.embed_tokens.weight", "llm.lm_head.weight")(folder)
    setting(CONFIG, "vocab_size", 832)(folder)


def _index_without_a_size(folder: Path) -> None:
    sharded(3)(folder)
    content = read_json(folder / INDEX)
    write_json(folder / INDEX, {"metadata": {}, "weight_map": content["weight_map"]})


def _with_saved_modules(tensors: Tensors) -> None:
    """Take the modules that the adapter has whole copies of."""
    for name, one in saved_modules(ADAPTERS_4_5 / "official").items():
        tensors[name] = one.to(tensors[name].dtype)


CASES = (
    Case(
        "template_in_its_own_file",
        alone_4_5(_template_to_its_own_file),
        "Newer libraries write the chat template to chat_template.jinja and no longer into tokenizer_config.json "
        "(huggingface/swift-transformers#204).",
    ),
    Case(
        "rope_written_the_new_way",
        alone_4_5(on_json(CONFIG, _rope_of_version_five), with_base=True),
        "transformers 5 saved rope_theta inside rope_parameters, where older code does not look "
        "(sgl-project/sglang#14745).",
    ),
    Case(
        "rows_padded_to_a_multiple",
        alone_4_5(_padded_rows, with_base=True),
        "Embeddings padded to a multiple of 64, so that sizes of model and tokenizer differ (OptimalScale/LMFlow#627).",
    ),
    Case(
        "tokenizer_in_one_file",
        alone_4_5(without_files("merges.txt", "vocab.json", "added_tokens.json")),
        "Only tokenizer.json came out, and not the files of the slow tokenizer, which it contains "
        "(huggingface/tokenizers#564).",
    ),
    Case(
        "tokens_listed_once_only",
        alone_4_5(without_setting(TOKENIZER_CONFIG, "added_tokens_decoder", "additional_special_tokens")),
        "Saving with another version dropped the list of added tokens from tokenizer_config.json; tokenizer.json has "
        "them still (NVIDIA-NeMo/Automodel#2653).",
    ),
    Case(
        "tower_rounded_otherwise",
        alone_4_5(mapped(lambda one: one.to(torch.float16), "vpm."), with_base=True),
        "The vision tower is not exactly the same as in the original, since it was stored in float16 "
        "(Q-Future/Q-Instruct#13).",
    ),
    Case(
        "sound_merge_in_shards",
        said_to_merge_4_5(all_of(merging(ADAPTERS_4_5 / "official"), on_tensors(_with_saved_modules), sharded(3))),
        "A LoRA merged rightly, but exported in several files, whose answers somebody compared with sampling on and "
        "found other (hiyouga/LlamaFactory#2771).",
    ),
    Case(
        "settings_of_another_version",
        alone_4_5(
            all_of(
                setting(CONFIG, "transformers_version", "4.40.0"),
                setting(CONFIG, "_name_or_path", "/root/autodl-tmp/MiniCPM-V-4_5"),
                setting(GENERATION, "transformers_version", "4.40.0"),
                setting(TOKENIZER_CONFIG, "tokenizer_file", None),
                setting(TOKENIZER_CONFIG, "name_or_path", "/root/autodl-tmp/MiniCPM-V-4_5"),
            )
        ),
        "Tuned with an older version, which left its number and the path of the base in the files "
        "(FlagOpen/FlagEmbedding#407).",
    ),
    Case(
        "index_without_a_size",
        alone_4_5(_index_without_a_size),
        "A tool wrote the index of the shards without their total size, which nobody needs for loading "
        "(exo-explore/exo#1956).",
    ),
)
