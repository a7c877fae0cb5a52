"""Adapters over the demo of 4.5, and merges over both demos, that look odd and answer as ever."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    ADAPTER_CONFIG,
    BASE_4_5,
    CONFIG,
    GENERATION,
    TEMPLATE,
    TOKENIZER_CONFIG,
    adapted_4_5,
    saved_modules,
    to_type,
)
from benchmarks.unseen.sixth_adapters_editing import (
    OFFICIAL_4_5,
    Factors,
    as_dora,
    configured,
    merge_of,
    merge_tokens,
    on_factors,
    whole_merge,
)
from benchmarks.unseen.third_4_6_editing import (
    ADAPTER_WEIGHTS,
    ADAPTERS,
    all_of,
    deltas,
    mapped,
    merge_into,
    on_json,
    read_json,
    read_tensors,
    said_to_merge,
    setting,
    sharded,
    without_files,
    write_json,
    write_tensors,
)


def template_in_a_file(folder: Path) -> None:
    """Move the template to a file of its own, as newer versions save it."""
    content = read_json(folder / TOKENIZER_CONFIG)
    (folder / TEMPLATE).write_text(content.pop("chat_template"), encoding="utf-8")
    write_json(folder / TOKENIZER_CONFIG, content)


def of_qwen(content: dict[str, Any]) -> None:
    """Name the class of the language model's tokenizer instead of the remote one."""
    del content["auto_map"]
    content.update(tokenizer_class="Qwen2TokenizerFast", padding_side="right", clean_up_tokenization_spaces=True)


def in_float32(folder: Path) -> None:
    """Merge without rounding, and write float32."""
    tensors = {name: one.float() for name, one in read_tensors(folder).items()}
    merge_into(tensors, deltas())
    write_tensors(folder, tensors)
    setting(CONFIG, "dtype", "float32")(folder)


def to_eight_bits(tensor: torch.Tensor) -> torch.Tensor:
    """Round each row to 255 steps, and write in the old type again."""
    if tensor.ndim != 2:
        return tensor
    step = tensor.float().abs().amax(1, keepdim=True).clamp(min=1e-8) / 127
    return ((tensor.float() / step).round() * step).to(tensor.dtype)


def merged_in_float32_4_5(folder: Path) -> None:
    """Merge factors and saved modules in float32, and write float16."""
    tensors = {name: one.float() for name, one in read_tensors(folder).items()}
    merge_into(tensors, deltas(OFFICIAL_4_5))
    tensors |= {name: one.float() for name, one in saved_modules(OFFICIAL_4_5).items()}
    write_tensors(folder, {name: one.half() for name, one in tensors.items()})
    setting(CONFIG, "torch_dtype", "float16")(folder)


def padded(first: torch.Tensor, second: torch.Tensor, _: torch.Tensor) -> Factors:
    """Fill up factors with zeros to twice the rank."""
    return {"A": torch.cat([first, torch.zeros_like(first)]), "B": torch.cat([second, torch.zeros_like(second)], 1)}


def without_metadata(folder: Path) -> None:
    """Write tensors from the last to the first, and no word of the framework."""
    tensors = load_file(folder / ADAPTER_WEIGHTS)
    save_file({name: tensors[name] for name in reversed(list(tensors))}, folder / ADAPTER_WEIGHTS)


CASES: tuple[Case, ...] = (
    Case(
        "magnitudes_named_as_before",
        adapted_4_5(as_dora(BASE_4_5, "lora_magnitude_vector")),
        "DoRA saved by the first PEFT that had it: magnitudes are named without `.weight`, and newer ones rename "
        "them on loading.",
    ),
    Case(
        "template_in_a_file_of_its_own",
        adapted_4_5(template_in_a_file),
        "The tokenizer was saved again by a transformers that writes the template to chat_template.jinja; it is the "
        "same template.",
    ),
    Case(
        "tokenizer_class_of_the_language_model",
        adapted_4_5(on_json(TOKENIZER_CONFIG, of_qwen)),
        "LLaMA-Factory saved the tokenizer without the remote class, padding on the right: tokenizer.json and ids are "
        "untouched.",
    ),
    Case(
        "only_the_fast_tokenizer",
        adapted_4_5(without_files("vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json")),
        "transformers 5 saves tokenizer.json and tokenizer_config.json alone; everything of the other files is in "
        "them.",
    ),
    Case(
        "remote_code_of_another_revision",
        adapted_4_5(
            configured(
                auto_mapping={
                    "base_model_class": "MiniCPMV",
                    "parent_library": "transformers_modules.8c4b9d2e1f7a.modeling_minicpmv",
                },
                base_model_name_or_path="../models/OpenBMB/MiniCPM-V-4_5",
                revision="main",
                task_type="CAUSAL_LM",
            )
        ),
        "The config names the remote class by the cache folder of the machine it was trained on, and a path there; "
        "nothing of it is read to load the adapter.",
    ),
    Case(
        "trained_on_factors_in_float16",
        adapted_4_5(all_of(to_type(torch.float16), setting(ADAPTER_CONFIG, "lora_dropout", 0.5))),
        "Trained in float16 on an older card with much dropout; values fit into float16 and dropout is off in serving.",
    ),
    Case(
        "rank_filled_up_with_zeros",
        adapted_4_5(all_of(on_factors(padded, BASE_4_5), configured(r=128, lora_alpha=128))),
        "Filled up to a rank that a server takes: half the rows and columns are zero and change nothing "
        "(defog-ai/sql-eval#169).",
    ),
    Case(
        "fan_in_fan_out_for_linear",
        adapted_4_5(configured(fan_in_fan_out=True)),
        "`fan_in_fan_out` is left from a recipe for GPT-2; PEFT warns and ignores it for linear layers "
        "(huggingface/peft#324).",
    ),
    Case(
        "fields_of_a_newer_peft",
        adapted_4_5(configured(peft_version="0.24.0", hadamard_config=None, target_experts=[], inference_mode=False)),
        "Saved by a newer PEFT with fields that this one does not know, all at their defaults; it warns and drops "
        "them (huggingface/peft#2038).",
    ),
    Case(
        "tensors_in_reverse_without_metadata",
        adapted_4_5(without_metadata),
        "Written by a converter in the reverse order and without the metadata that names the framework; tensors are "
        "found by name.",
    ),
    Case(
        "merged_without_rounding",
        merge_of(all_of(in_float32, sharded(3))),
        "Merged on a CPU in float32 and written so, in three shards: small differences to the merge in bfloat16, and "
        "the same answers (huggingface/peft#1904).",
    ),
    Case(
        "merged_then_rounded_to_eight_bits",
        said_to_merge(mapped(to_eight_bits, "language_model.layers")),
        "Merged, rounded to 8 bits and written as bfloat16 again; PEFT warns of rounding errors, which are too small "
        "to change an answer (huggingface/peft#2321).",
    ),
    Case(
        "tokens_merged_with_rows_and_tokenizer",
        merge_of(merge_tokens, ADAPTERS / "tokens"),
        "Merged with trained rows: embeddings and head differ from the base's in rows that no factor explains, as "
        "they should, and the adapter's tokenizer is brought along.",
    ),
    Case(
        "whole_merge_in_float16",
        merge_of(merged_in_float32_4_5, OFFICIAL_4_5, BASE_4_5),
        "Factors and saved modules merged, and everything written in float16 for a card without bfloat16; answers "
        "stay the same.",
    ),
    Case(
        "merge_with_notes_of_the_exporter",
        merge_of(
            all_of(
                whole_merge(OFFICIAL_4_5),
                setting(GENERATION, "max_new_tokens", 2048),
                setting(GENERATION, "repetition_penalty", 1.0),
                setting(CONFIG, "_name_or_path", "output/checkpoint-138-merged"),
                setting(CONFIG, "transformers_version", "4.57.1"),
                setting(CONFIG, "use_cache", value=False),
            ),
            OFFICIAL_4_5,
            BASE_4_5,
        ),
        "The exporter notes versions, paths and lengths, and leaves `use_cache: false` from gradient checkpointing; "
        "answers are slower and the same.",
    ),
)
