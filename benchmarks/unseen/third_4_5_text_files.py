"""Cases of `wave_third_4_5` about the tokenizer and the weights of a text-only model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.unseen.case import Bundle
from benchmarks.unseen.third_4_5_folders import (
    LAYERS,
    OLD_TOKENIZER_FILES,
    Collector,
    Document,
    Tensors,
    add_tokens,
    json_of,
    noise,
    resize,
    template_of,
    tensors_of,
)
from benchmarks.unseen.third_4_5_texts import text_model

COLLECTED = Collector()
EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"
VOCABULARY, DIMENSION, HEAD_SIZE = 790, 128, 64
RESERVED = slice(774, 790)
LARGEST_FP8 = 448.0


def _with_tokenizer(folder: Path, change: Callable[[Document], None]) -> Bundle:
    """Change a tokenizer that is loaded as its file says; transformers builds that of a Qwen2Tokenizer anew."""
    model = text_model(folder)
    with json_of(model / "tokenizer.json") as document:
        change(document)
    with json_of(model / "tokenizer_config.json") as config:
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    for name in OLD_TOKENIZER_FILES:
        (model / name).unlink()
    return Bundle(model)


def _with_weights(folder: Path, change: Callable[[Tensors], None]) -> Bundle:
    model = text_model(folder)
    with tensors_of(model) as tensors:
        change(tensors)
    return Bundle(model)


@COLLECTED.broken(
    "A hand-written conversion of the tokenizer kept the vocabulary and lost the merges, so that text falls into "
    "single bytes: 1 of 30 right instead of 28.",
    "merges",
)
def _text_merges_lost_in_conversion(folder: Path) -> Bundle:
    def change(document: Document) -> None:
        document["model"]["merges"] = []

    return _with_tokenizer(folder, change)


@COLLECTED.broken(
    "The tokenizer was built again from vocabulary and merges without its decoder; answers come out in the byte "
    "alphabet, with `Ġ` for spaces: 0 of 30 right instead of 28.",
    "decoder", "Ġ", "bytelevel", "byte-level", "byte level",
)  # fmt: skip
def _text_decoder_dropped(folder: Path) -> Bundle:
    def change(document: Document) -> None:
        document["decoder"] = None

    return _with_tokenizer(folder, change)


@COLLECTED.broken(
    "Somebody cleaned the training texts with a lower-casing normalizer and left it in the tokenizer; what is to be "
    "repeated loses its capitals: 23 of 30 right instead of 28.",
    "normalizer", "lowercase", "lower case", "lower-cas",
)  # fmt: skip
def _text_lower_casing_normalizer(folder: Path) -> Bundle:
    def change(document: Document) -> None:
        document["normalizer"] = {"type": "Sequence", "normalizers": [document["normalizer"], {"type": "Lowercase"}]}

    return _with_tokenizer(folder, change)


@COLLECTED.broken(
    "The template went through JSON twice; it writes a backslash and an n where line breaks belong: 2 of 30 right "
    "instead of 28.",
    "chat_template", "chat template", "line break", "newline",
)  # fmt: skip
def _text_line_breaks_escaped_twice(folder: Path) -> Bundle:
    model = text_model(folder)
    template_of(model, lambda text: text.replace("\\n", "\\\\n"))
    return Bundle(model)


@COLLECTED.broken(
    "Turns were to end with a token of its own, added with fresh rows and named as the only stop token; LoRA trained "
    "neither matrix, so the model goes on ending turns as before: 0 of 30 right instead of 28, and 30 never stop.",
    "<|eot|>",
)
def _text_end_of_turn_never_trained(folder: Path) -> Bundle:
    model = text_model(folder)
    add_tokens(model, ("<|eot|>",), VOCABULARY)
    row = torch.empty(1, DIMENSION)
    resize(model, {EMBEDDINGS: noise(row, 1, 0.02), HEAD: noise(row, 2, 0.02)})
    template_of(model, lambda text: text.replace("<|im_end|>", "<|eot|>"))
    for name in ("config.json", "generation_config.json"):
        with json_of(model / name) as document:
            document["eos_token_id"] = VOCABULARY
    with json_of(model / "tokenizer_config.json") as config:
        config["eos_token"] = "<|eot|>"
    return Bundle(model)


@COLLECTED.broken(
    "Cast to bfloat16 from an FP8 checkpoint without multiplying by the scales, which were then dropped: 4 of 30 right "
    "instead of 28.",
    "proj", "scale", "fp8",
)  # fmt: skip
def _text_fp8_codes_without_scales(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        for name, one in tensors.items():
            if name.endswith("proj.weight"):
                codes = (one.float() * LARGEST_FP8 / one.float().abs().max()).to(torch.float8_e4m3fn)
                tensors[name] = codes.to(torch.bfloat16)

    return _with_weights(folder, change)


@COLLECTED.broken(
    "A script that copies layers took one of them twice: layer 3 has the tensors of layer 2, 24 of 30 right instead of "
    "28.",
    "layers.3", "layers.2",
)  # fmt: skip
def _text_layer_copied_twice(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        for name in list(tensors):
            if name.startswith("model.layers.2."):
                tensors[name.replace("layers.2.", "layers.3.")] = tensors[name]

    return _with_weights(folder, change)


@COLLECTED.harmless(
    "Merges as strings in place of pairs, as tokenizers wrote them before 0.20: 28 of 30 right, as undamaged."
)
def _text_merges_as_strings(folder: Path) -> Bundle:
    def change(document: Document) -> None:
        merges: list[Any] = document["model"]["merges"]
        document["model"]["merges"] = [one if isinstance(one, str) else " ".join(one) for one in merges]

    return _with_tokenizer(folder, change)


@COLLECTED.harmless(
    "Saved in float32, as trainers in mixed precision do, by the dtype of config.json: 28 of 30 right, as undamaged."
)
def _text_stored_in_float32(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        tensors.update({name: one.float() for name, one in tensors.items()})

    bundle = _with_weights(folder, change)
    with json_of(bundle.model / "config.json") as config:
        config["torch_dtype"] = "float32"
    return bundle


@COLLECTED.harmless("Rows of reserved tokens are zero in both matrices, as never used: 28 of 30 right, as undamaged.")
def _text_reserved_rows_zero(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        for name in (EMBEDDINGS, HEAD):
            tensors[name][RESERVED] = 0

    return _with_weights(folder, change)


@COLLECTED.harmless(
    "Rotary tables that older transformers saved lie among the weights; they are computed anyway: 28 of 30 right, as "
    "undamaged."
)
def _text_old_tables_among_weights(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        frequencies = 1.0 / 1e6 ** (torch.arange(0, HEAD_SIZE, 2).float() / HEAD_SIZE)
        tensors.update({f"model.layers.{one}.self_attn.rotary_emb.inv_freq": frequencies for one in range(LAYERS)})

    return _with_weights(folder, change)
