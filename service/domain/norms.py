"""Knows by what a norm multiplies each channel: by its weight, or by one more.

Knows no value. Source: transformers 5.23, the modeling files of each type.
"""

import re
from collections.abc import Mapping
from typing import Any

from service.domain.minicpmv import LANGUAGES, MODEL_TYPE, version_of

QWEN = frozenset({"qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_next"})
GEMMA = frozenset({"gemma", "gemma2", "gemma3", "gemma3_text", "paligemma", "recurrent_gemma", "vaultgemma"})
"""Gemma 3n and 4 multiply by the weight again."""
ADDING = QWEN | GEMMA
"""Types of language models whose norms multiply by one more than their weight."""
SENSE = re.compile(r"(^|\.)(vpm|vision\w*|visual|resampler\w*|merger|multi_modal_projector|audio\w*|apm|tts)\.")
"""Parts beside the language model."""
GATED = "linear_attn.norm.weight"
"""It multiplies by its weight in every family."""
OF_PICTURES = "mm_soft_emb_norm.weight"
"""Gemma 3's norm of what the tower saw, which is of the language model's kind."""


def language_type(config: Mapping[str, Any]) -> str:
    """Return `model_type` of the language model that a config.json describes, alone or beside other parts."""
    if config.get("model_type") == MODEL_TYPE:
        return LANGUAGES.get(version_of(config) or "", "")
    text = config.get("text_config")
    own = text.get("model_type") if isinstance(text, dict) else None
    return str(own or config.get("model_type") or "")


def is_of_language(name: str) -> bool:
    """Say whether a tensor is of the language model, whatever stands in front of its layers."""
    return SENSE.search(name) is None


def adds_one(name: str, config: Mapping[str, Any]) -> bool:
    """Say whether a norm multiplies by one more than its weight.

    Args:
        name: Of the weight.
        config: The content of config.json.
    """
    is_kind = is_of_language(name) or name.endswith(OF_PICTURES)
    return is_kind and not name.endswith(GATED) and language_type(config) in ADDING
