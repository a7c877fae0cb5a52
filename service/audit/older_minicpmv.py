"""What is known of the official MiniCPM-V 2.6, 4.0 and 4.5: sizes, rotary base and ids.

Judges nothing. Source: the official config.json and tokenizers of each; the ids of 4.0 were not to be had.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from service.domain.facts import BaseFacts
from service.domain.minicpmv import ENDS, MARKERS, MODEL_TYPE, NEEDS_THETA, version_of

TOWER = {"hidden_size": 1152, "num_attention_heads": 16, "image_size": 980}
"""Of the official vision tower, which all three share."""
SCALE_RESOLUTION = 448
"""Side of the square that a slice has as many pixels as, in all three."""
QUERIES = "self_attn.q_proj.weight"
MIN_MARKS = 2
TOWER_LAYER = re.compile(r"^vpm\.encoder\.layers\.(\d+)\.")

TIMM = ("vpm.blocks.", "vpm.patch_embed.")
"""How tensors of 2.0's tower begin."""
FIRST = 2.6
"""The first version that is served."""


@dataclass(frozen=True, slots=True)
class Official:
    """One official checkpoint.

    Attributes:
        hidden: Width of the language model, by which a checkpoint of its size is told from a smaller one.
        heads: Attention heads, and those that share keys.
        rows: Of both vocabulary matrices.
        ids: Of tokens that are known.
    """

    hidden: int
    heads: tuple[int, int]
    rows: int
    theta: float
    ids: Mapping[str, int]


OFFICIAL = {
    "2.6": Official(3584, (28, 4), 151666, 1e6, {"<image>": 151646, "<unk>": 128244}),
    "4.0": Official(2560, (32, 2), 73448, 1e4, {}),
    "4.5": Official(4096, (32, 8), 151748, 1e6, {"<image>": 151669, "<unk>": 128244}),
}


def config_of(base: BaseFacts) -> Mapping[str, Any]:
    """Return config.json of a minicpmv; empty of another model type."""
    return base.documents.get("config.json", {}) if base.model_type == MODEL_TYPE else {}


def marker_texts(base: BaseFacts) -> dict[str, str]:
    """Return the tokens that blocks of pictures are written with, by their names in preprocessor_config.json."""
    settings = base.documents.get("preprocessor_config.json", {})
    return {name: str(settings.get(name) or text) for name, text in MARKERS.items()}


def added_markers(base: BaseFacts) -> set[str]:
    """Return the markers that are tokens of a minicpmv's own tokenizer; empty of another model type."""
    added = base.tokenizer.added if base.tokenizer else {}
    return {text for text in marker_texts(base).values() if text in added} if config_of(base) else set()


def tower_layers(tensors: Iterable[str]) -> int:
    """Count the layers of the vision tower among tensors' names."""
    return len({match[1] for name in tensors if (match := TOWER_LAYER.match(name))})


def stored_version(tensors: Iterable[str], config: Mapping[str, Any]) -> float | None:
    """Tell the version by the kind of the language model; None if there is none, or it could be a 2.0 or 2.5.

    Only 4.5 has norms of queries and only 2.6 has biases. 4.0, 2.5 and 2.0 have tensors of the same names.
    """
    names = [name for name in tensors if name.startswith("llm.")]
    if any(name.endswith("self_attn.q_norm.weight") for name in names):
        return 4.5
    if any(name.endswith("self_attn.q_proj.bias") for name in names):
        return 2.6
    scaling = config.get("rope_scaling")
    is_longrope = isinstance(scaling, dict) and "longrope" in (scaling.get("rope_type"), scaling.get("type"))
    return 4.0 if names and (is_longrope or config.get("hidden_size") == OFFICIAL["4.0"].hidden) else None


def judged_version(base: BaseFacts) -> str | None:
    """Return the version by which a minicpmv is to be judged; None as long as config.json and the tensors disagree."""
    config = config_of(base)
    version, stored = version_of(config), stored_version(base.tensors, config)
    if stored is None:
        return None if version in NEEDS_THETA and has_language_model(base) else version
    return version if version == f"{stored}" else None


def has_language_model(base: BaseFacts) -> bool:
    """Say whether tensors have the names that the language model of a minicpmv has."""
    return any(name.startswith("llm.") for name in base.tensors)


def early_signs(base: BaseFacts) -> list[str]:
    """Name what shows that a minicpmv without norms of queries and without biases is a 2.0 or 2.5.

    The first two no later version has; the others count where config.json names no version.
    """
    config = config_of(base)
    if not config or stored_version(base.tensors, config) is not None:
        return []
    vision, settings = config.get("vision_config"), base.documents.get("preprocessor_config.json", {})
    found = []
    if any(name.startswith(TIMM) for name in base.tensors):
        found.append("a tower with the names of timm's (2.0)")
    if isinstance(vision, dict) and "idefics2" in str(vision.get("model_type")):
        found.append("a tower of type idefics2 (2.5)")
    if config.get("version") is not None:
        return found
    if vision is None:
        found.append("no vision_config (2.0)")
    if _number(settings.get("version")) < FIRST:
        found.append(f"preprocessor_config.json of version {settings['version']}")
    if config.get("query_num") == 96:
        found.append("96 queries (2.5)")
    if base.tokenizer and "<|eot_id|>" in base.tokenizer.vocabulary:
        found.append("Llama 3's <|eot_id|> (2.5)")
    return found


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.inf


def is_early(config: Mapping[str, Any]) -> bool:
    """Say whether config.json itself names a version before the first that is served."""
    return _number(config.get("version")) < FIRST


def lost_norms(base: BaseFacts, config: Mapping[str, Any]) -> list[str]:
    """Name the norms of queries and keys that a 4.5 lacks.

    Without them its tensors have the names of a 4.0, from which the rotary base tells it, with two of these: no rotary
    scaling, the width of heads, the template's switch for thoughts.
    """
    others = ("self_attn.q_norm.weight", "self_attn.k_norm.weight", "self_attn.q_proj.bias")  # the last is of 2.6
    names = [name for name in base.tensors if name.startswith("llm.")]
    if version_of(config) != "4.5" or any(name.endswith(others) for name in names):
        return []
    rope, scaling = config.get("rope_parameters"), config.get("rope_scaling")
    rope = rope if isinstance(rope, dict) else {"rope_theta": config.get("rope_theta"), "rope_type": bool(scaling)}
    marks = (
        rope.get("rope_type") in (None, False, "default"),
        config.get("head_dim") is not None,
        base.template is not None and base.template.has_switch,
    )
    if rope.get("rope_theta") != OFFICIAL["4.5"].theta or sum(marks) < MIN_MARKS:
        return []
    layers = [name.removesuffix(QUERIES) for name in names if name.endswith(QUERIES)]
    return [f"{layer}self_attn.{name}_norm.weight" for layer in layers for name in ("q", "k")]


def official_stops(base: BaseFacts) -> dict[str, int]:
    """Return the tokens at which the official `chat()` stops, as far as the tokenizer has them, with their ids."""
    version, tokenizer = judged_version(base), base.tokenizer
    if version is None or tokenizer is None:
        return {}
    return {text: tokenizer.vocabulary[text] for text in ENDS[version] if text in tokenizer.vocabulary}
