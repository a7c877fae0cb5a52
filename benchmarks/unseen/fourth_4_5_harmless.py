"""Sound folders in the layout of 4.5 that look suspicious."""

from pathlib import Path

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    ADAPTER_CONFIG,
    ADAPTERS_4_5,
    CONFIG,
    GENERATION,
    PREPROCESSOR,
    TEMPLATE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    adapted_4_5,
    alone_4_5,
    mean_row,
    merging,
    noise,
    said_to_merge_4_5,
    saved_modules,
    to_type,
    with_rows,
)
from benchmarks.unseen.third_4_6_editing import (
    Tensors,
    all_of,
    on_json,
    on_tensors,
    read_json,
    replacing,
    setting,
    sharded,
    without_files,
    without_setting,
)

EMBEDDINGS, HEAD = "llm.model.embed_tokens.weight", "llm.lm_head.weight"
SLOW_FILES = ("vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json")


def _template_as_file(folder: Path) -> None:
    text = read_json(folder / TOKENIZER_CONFIG)["chat_template"]
    (folder / TEMPLATE).write_text(text, encoding="utf-8")
    without_setting(TOKENIZER_CONFIG, "chat_template")(folder)


def _official_code(folder: Path) -> None:
    """Add files in the places of the official code, which the service never runs."""
    for file in ("configuration_minicpm", "modeling_minicpmv", "resampler", "tokenization_minicpmv_fast"):
        (folder / f"{file}.py").write_text("raise ImportError('for AutoModel alone')\n", encoding="utf-8")


def _whole_modules(tensors: Tensors) -> None:
    tensors |= {name: tensor.clone() for name, tensor in saved_modules(ADAPTERS_4_5 / "official").items()}


def _tuned_language(tensors: Tensors) -> None:
    for seed, name in enumerate(sorted(tensors)):
        if name.startswith("llm.model.layers.") and tensors[name].ndim == 2:
            tensors[name] = (tensors[name].float() + noise(tensors[name], 0.02, seed)).to(torch.bfloat16)


MODELS = (
    Case(
        "picture_settings_with_more_keys",
        alone_4_5(
            on_json(
                PREPROCESSOR,
                lambda content: content.update(
                    version=4.5, do_resize=True, do_rescale=True, rescale_factor=1 / 255, crop_size=112, resample=3
                ),
            )
        ),
        "Saved by a processor that adds its own defaults; 4.5 reads none of them. 30 of 30 right, as before.",
    ),
    Case(
        "fast_tokenizer_alone",
        alone_4_5(all_of(without_files(*SLOW_FILES), _template_as_file)),
        "Saved by transformers 5: one file for the tokenizer, one for the template. 30 of 30 right, as before.",
    ),
    Case(
        "official_code_in_shards",
        alone_4_5(all_of(_official_code, sharded(4))),
        "As downloaded from a hub: several shards and the code of the release. 30 of 30 right, as before.",
    ),
    Case(
        "padded_rows_in_float32",
        alone_4_5(
            all_of(
                with_rows(896, mean_row, EMBEDDINGS, HEAD),
                to_type(torch.float32),
                setting(CONFIG, "vocab_size", 896),
                setting(CONFIG, "torch_dtype", "float32"),
            )
        ),
        "Padded to a multiple of 128 with the mean of all rows, and saved in full precision. "
        "30 of 30 right, as before.",
    ),
    Case(
        "merged_with_its_whole_modules",
        said_to_merge_4_5(all_of(merging(ADAPTERS_4_5 / "official"), on_tensors(_whole_modules))),
        "A complete merge: factors added, embeddings, resampler and tower replaced. 28 of 30 right, as before.",
    ),
    Case(
        "language_layers_tuned",
        alone_4_5(on_tensors(_tuned_language), with_base=True),
        "A full fine-tuning of the language layers with a frozen tower. 30 of 30 right, as before.",
    ),
    Case(
        "reserved_tokens_named",
        alone_4_5(
            all_of(
                *(
                    replacing(file, ("<|reserved_3|>", "<|tool_begin|>"), ("<|reserved_4|>", "<|tool_end|>"))
                    for file in (TOKENIZER, TOKENIZER_CONFIG, "added_tokens.json", "special_tokens_map.json")
                )
            )
        ),
        "Two reserved tokens got names for a later training; no answer or template has them. "
        "30 of 30 right, as before.",
    ),
    Case(
        "generation_settings_without_thinking_switch",
        alone_4_5(
            all_of(
                without_setting(GENERATION, "chat_template_kwargs", "bos_token_id"),
                setting(GENERATION, "repetition_penalty", 1.0),
                setting(GENERATION, "eos_token_id", 751),
            )
        ),
        "Saved by a framework that keeps what it knows; thinking is off where a request does not ask for it. "
        "30 of 30 right, as before.",
    ),
    Case(
        "versions_and_paths_of_another_machine",
        alone_4_5(
            on_json(
                CONFIG,
                lambda content: content.update(
                    _name_or_path="/root/autodl-tmp/MiniCPM-V-4_5", transformers_version="4.44.2", use_cache=False
                ),
            )
        ),
        "Saved by an older transformers with gradient checkpointing. 30 of 30 right, as before.",
    ),
)

ADAPTERS = (
    Case(
        "official_in_float32_with_full_names",
        adapted_4_5(
            all_of(
                to_type(torch.float32),
                setting(ADAPTER_CONFIG, "base_model_name_or_path", "openbmb/MiniCPM-V-4_5"),
                setting(ADAPTER_CONFIG, "task_type", "CAUSAL_LM"),
            )
        ),
        "As a DeepSpeed run of the official script leaves it. 28 of 30 right, as before.",
    ),
    Case(
        "official_without_its_tokenizer",
        adapted_4_5(without_files(*SLOW_FILES, TOKENIZER, TOKENIZER_CONFIG)),
        "The tokenizer was not changed, and so not uploaded. 28 of 30 right, as before.",
    ),
)

CASES = (*MODELS, *ADAPTERS)
