"""What every room knows of MiniCPM-V 2.6, 4.0 and 4.5: what config.json must say, markers, what ends answers.

Source: the official config.json, preprocessor_config.json and `chat()` of each.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

MODEL_TYPE = "minicpmv"
LANGUAGES = {"2.6": "qwen2", "4.0": "llama", "4.5": "qwen3"}
"""transformers' `model_type` of the language model, by version."""
PACKS = "4.5"
"""The version that knows packs of video frames."""
STILL = -1
"""Stands for a picture that is no video frame among the times of frames."""
NEEDED = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "max_position_embeddings",
    "query_num",
    "vision_config",
)
"""Fields without which a class default, made for another size, would be taken."""
NEEDED_OF_VISION = (
    "hidden_size",
    "image_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "patch_size",
)
NEEDS_THETA = ("2.6", "4.5")
"""Their rotary base is 1e6, transformers' default 1e4, which is that of 4.0."""
HEAD_SIZE = 128
"""Of the resampler's attention, whatever the language model's is."""
MARKERS = {
    "im_start": "<image>",
    "im_end": "</image>",
    "slice_start": "<slice>",
    "slice_end": "</slice>",
    "im_id_start": "<image_id>",
    "im_id_end": "</image_id>",
    "unk": "<unk>",
}
"""Names in preprocessor_config.json, and the tokens of all official files, which stand around and inside pictures."""
ENDS = {
    "2.6": ("<|im_end|>", "<|endoftext|>"),
    "4.0": ("<|im_end|>", "</s>"),
    "4.5": ("<|im_end|>", "<|endoftext|>"),
}
"""What `chat()` of each version stops at; 2.6's generation_config.json names the first only."""
OTHER_SENSES = (r"^apm\.", r"^audio", r"^tts\.")
"""Tensors of MiniCPM-o for hearing and speaking, which answers in text do not need."""
LEFT_OUT = re.compile(rf"(model\.)?mtp\.|{'|'.join(OTHER_SENSES)}")
"""What guesses tokens ahead, hears or speaks: releases have it beside the model, and loading leaves it out."""
HEARING = re.compile(r"MiniCPMO($|\d|_|For|Model)")
"""Classes of MiniCPM-o; MiniCPM-OCR's begin with the same letters."""
NOT_SERVED = f"MiniCPM-o is not served; of MiniCPM-V, {', '.join(LANGUAGES)}, 4.6 and later are"
TABLES = (r"rotary_emb\.inv_freq$", r"embeddings\.position_ids$")
"""Tensors that older releases of transformers saved, and that are computed."""


def is_minicpm_o(config: Mapping[str, Any]) -> bool:
    """Say whether config.json is that of a MiniCPM-o, by either of the two names that say so."""
    named = config.get("architectures")
    classes = named if isinstance(named, list) else [named]
    return config.get("model_type") == "minicpmo" or any(HEARING.match(str(one)) for one in classes)


def version_of(config: Mapping[str, Any]) -> str | None:
    """Return a key of `LANGUAGES`, however config.json writes it (2.6, "2.6", 4); None if it is none of these."""
    try:
        given = float(config.get("version", ""))
    except (TypeError, ValueError, OverflowError):
        return None
    return next((version for version in LANGUAGES if float(version) == given), None)


def missing_fields(config: Mapping[str, Any]) -> list[str]:
    """Name what a flat config.json does not say, dotted where it lies deeper."""
    vision, rope = config.get("vision_config"), config.get("rope_parameters")
    missing = [name for name in NEEDED if config.get(name) is None]
    if isinstance(vision, Mapping):
        missing += [f"vision_config.{name}" for name in NEEDED_OF_VISION if vision.get(name) is None]
    theta = config.get("rope_theta") or (rope.get("rope_theta") if isinstance(rope, Mapping) else None)
    if version_of(config) in NEEDS_THETA and theta is None:
        missing.append("rope_theta")
    return missing


def misfit_fields(config: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
    """Return name, value and what it must be of each field that is there and that nothing can be built with."""
    return [
        *_no_counts(config, [name for name in NEEDED if name != "vision_config"], ""),
        *_no_parts(config),
    ]


def _no_parts(config: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    vision, drops = config.get("vision_config"), config.get("drop_vision_last_layer")
    if isinstance(vision, Mapping):
        yield from _no_counts(vision, NEEDED_OF_VISION, "vision_config.")
    elif vision is not None:
        yield "vision_config", vision, "an object"
    if not isinstance(drops, bool | None):
        yield "drop_vision_last_layer", drops, "true or false"


def _no_counts(part: Mapping[str, Any], names: Iterable[str], prefix: str) -> Iterator[tuple[str, Any, str]]:
    for name in names:
        value = part.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            yield f"{prefix}{name}", value, "a whole number of at least 1"
