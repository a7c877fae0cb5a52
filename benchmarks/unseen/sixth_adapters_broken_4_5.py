"""Adapters over the demo of 4.5 that people bring broken."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    ADAPTER_CONFIG,
    BASE_4_5,
    TOKENIZER,
    TOKENIZER_CONFIG,
    adapted_4_5,
    mean_row,
    tokenizer_part,
    with_rows,
    writing,
)
from benchmarks.unseen.third_4_6_editing import (
    ADAPTER_WEIGHTS,
    MODEL_WEIGHTS,
    Tensors,
    on_json,
    on_tensors,
    renamed,
    setting,
    without_tensors,
)

TOOL_TOKENS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
EMBEDDINGS = "base_model.model.llm.model.embed_tokens.weight"
POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:9f2d1c7f6a64f0cf3a2c5b1a1ce8a0f1b9a4a2b3a5d5bb6f2f1a6f6c1d0e7b42\nsize 2269936\n"
)


def without_tool_tokens(folder: Path) -> None:
    """Bring the tokenizer of a release before tools: every id behind them is four less."""

    def moved(token_id: int) -> int:
        return token_id - len(TOOL_TOKENS) if token_id > 755 else token_id

    def change(content: dict[str, Any]) -> None:
        kept = [one for one in content["added_tokens"] if one["content"] not in TOOL_TOKENS]
        content["added_tokens"] = [{**one, "id": moved(one["id"])} for one in kept]

    def change_config(content: dict[str, Any]) -> None:
        flags = content["added_tokens_decoder"].items()
        content["added_tokens_decoder"] = {
            str(moved(int(token_id))): one for token_id, one in flags if one["content"] not in TOOL_TOKENS
        }

    def change_table(content: dict[str, Any]) -> None:
        for token, token_id in list(content.items()):
            content[token] = moved(token_id)
            if token in TOOL_TOKENS:
                del content[token]

    on_json(TOKENIZER, change)(folder)
    on_json(TOKENIZER_CONFIG, change_config)(folder)
    on_json("added_tokens.json", change_table)(folder)


def gpt2_splits(folder: Path) -> None:
    """Split texts as GPT-2 does, which the class that was resolved brings along."""
    splits = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    tokenizer_part("pre_tokenizer", splits)(folder)
    setting(TOKENIZER_CONFIG, "add_prefix_space", value=True)(folder)


def begin_every_text(folder: Path) -> None:
    """Let the tokenizer put a beginning before each text."""
    pieces: list[dict[str, Any]] = [
        {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}},
    ]
    special = {
        "<|im_start|>": {"id": "<|im_start|>", "ids": [750], "tokens": ["<|im_start|>"]},
        "<|im_end|>": {"id": "<|im_end|>", "ids": [751], "tokens": ["<|im_end|>"]},
    }
    both = [*pieces, {"Sequence": {"id": "B", "type_id": 1}}]
    template = {"type": "TemplateProcessing", "single": pieces, "pair": both, "special_tokens": special}
    tokenizer_part("post_processor", template)(folder)
    setting(TOKENIZER_CONFIG, "add_bos_token", value=True)(folder)
    setting(TOKENIZER_CONFIG, "add_eos_token", value=True)(folder)


def tower_as_it_began(tensors: Tensors) -> None:
    """Put noise in the place of the tower, as an initialisation that no weights followed leaves it."""
    base = load_file(BASE_4_5 / MODEL_WEIGHTS)
    generator = torch.Generator().manual_seed(6)
    for name in [one for one in tensors if ".vpm.encoder." in one and one.endswith("proj.weight")]:
        like = base[name.removeprefix("base_model.model.")]
        tensors[name] = (torch.randn(like.shape, generator=generator) * 0.02).to(torch.bfloat16)


def only_factors_named(change: str) -> Any:
    """Make an edit that renames factors."""
    return renamed(lambda name: name.replace("model.llm.model.", change) if ".lora_" in name else name)


CASES: tuple[Case, ...] = (
    Case(
        "wrapped_around_the_language_model",
        adapted_4_5(only_factors_named("model.model.")),
        "The trainer put LoRA on `model.llm` and its factors are named from there, without `llm.`; only the saved "
        "modules arrive and the attention stays the base's (modelscope/ms-swift#4725).",
        ("llm", "self_attn", "lora_A", "unexpected", "missing"),
    ),
    Case(
        "saved_modules_not_in_the_file",
        adapted_4_5(without_tensors("vpm.", "resampler.", "embed_tokens")),
        "The official script of the first weeks saved the factors only, though tower, resampler and embeddings were "
        "trained; the config still lists them and PEFT finds no tensors (OpenBMB/MiniCPM-V#222).",
        ("modules_to_save", "vpm", "resampler", "embed_tokens"),
    ),
    Case(
        "tokenizer_before_tools",
        adapted_4_5(without_tool_tokens),
        "The tokenizer saved with the adapter is that of a release without the tokens for tools, so that the ids of "
        "<think> and of the markers of pictures are four less than the embeddings know.",
        ("<tool_call>", "<image>", "<think>", "<unit>"),
    ),
    Case(
        "beginning_and_end_around_every_text",
        adapted_4_5(begin_every_text),
        "Converting the tokenizer switched on `add_bos_token` and `add_eos_token`: the prompt itself is closed with "
        "<|im_end|> before the answer begins.",
        ("post_processor", "add_eos_token", "add_bos_token", "<|im_end|>", "TemplateProcessing"),
    ),
    Case(
        "tower_never_loaded",
        adapted_4_5(on_tensors(tower_as_it_began)),
        "The trainer built the tower without loading its weights and then saved it among modules_to_save: pictures "
        "go through random projections and answers about them are guesses.",
        ("vpm", "random", "initial", "self_attn"),
    ),
    Case(
        "rslora_from_weighted_combination",
        adapted_4_5(setting(ADAPTER_CONFIG, "use_rslora", value=True)),
        "A combined adapter whose alpha equals its rank, so that its factor is one, inherits `use_rslora` from its "
        "source: updates are eight times as strong and answers are garbage (huggingface/peft#3449).",
        ("use_rslora", "rslora", "scal", "lora_alpha"),
    ),
    Case(
        "embeddings_with_added_rows",
        adapted_4_5(with_rows(896, mean_row, EMBEDDINGS)),
        "The trainer added tokens and padded the embeddings to a multiple of 128 rows; the saved copy has more rows "
        "than the base that it is mounted on and PEFT refuses it (hiyouga/LlamaFactory#7997).",
        ("embed_tokens", "896", "size mismatch", "shape"),
    ),
    Case(
        "cloned_without_large_files",
        adapted_4_5(writing(ADAPTER_WEIGHTS, POINTER)),
        "Cloned without git-lfs: the weight file is three lines of text, and safetensors says that its header is too "
        "large (microsoft/OmniParser#34).",
        ("adapter_model.safetensors", "lfs", "pointer", "header"),
    ),
    Case(
        "excluded_layers_of_a_trial",
        adapted_4_5(setting(ADAPTER_CONFIG, "exclude_modules", r".*layers\.[01]\..*")),
        "`exclude_modules` was edited for a trial on fewer layers while the file has all of them; PEFT drops what it "
        "excludes without an error and answers lose the style.",
        ("exclude_modules", "layers.0", "layers.1", "unexpected"),
    ),
    Case(
        "splits_of_another_tokenizer_class",
        adapted_4_5(gpt2_splits),
        "The tokenizer was saved from a class that a newer transformers resolved to, which splits like GPT-2 and puts "
        "a space before each text; the same text gets other ids (generative-computing/mellea#947).",
        ("pre_tokenizer", "add_prefix_space", "ByteLevel", "space"),
    ),
)
