"""Which modules a LoRA config targets, by PEFT's rules.

Source: peft 0.21.2, `tuners_utils.check_target_module_exists`. Knows names only.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

LAYER = re.compile(r".*\.[^.]*\.(?P<index>\d+)\.")

PART = re.compile(r"(^|\.)(?P<part>vision_tower|vision_model|visual|vpm|resampler|merger|multi_modal_projector)\.")
"""Parts that see pictures, which most trainings leave out."""


def is_targeted(config: Mapping[str, Any], module: str) -> bool:
    """Say whether PEFT puts factors on a module."""
    if _fits(config.get("exclude_modules"), module):
        return False
    if not _fits(config.get("target_modules"), module):
        return False
    layers = config.get("layers_to_transform")
    if layers is None or isinstance(config.get("target_modules"), str):
        return True
    index = _layer_index(module, config.get("layers_pattern"))
    wanted = layers if isinstance(layers, list) else [layers]
    return index is None or index in wanted


def matches_any(module: str, names: Iterable[str]) -> bool:
    """Say whether a module is one of these, or lies in one: names match whole parts at its end or inside."""
    return any(f".{name}." in f".{module}." for name in names)


def in_untouched_parts(config: Mapping[str, Any], absent: Iterable[str], present: Iterable[str]) -> bool:
    """Say whether absent factors change nothing and lie in parts for pictures of which the file has no factor at all.

    Factors that a file lacks begin as PEFT's defaults do, the second one at zero, unless the config says otherwise.
    """
    if config.get("init_lora_weights") not in (None, True, "gaussian"):
        return False
    touched = {match["part"] for one in present if (match := PART.search(one))}
    parts = {match["part"] if (match := PART.search(one)) else None for one in absent}
    return bool(parts) and None not in parts and not parts & touched


def _fits(wanted: Any, module: str) -> bool:
    if isinstance(wanted, str):
        try:
            return re.fullmatch(wanted, module) is not None
        except re.error:
            return False
    if not isinstance(wanted, list):
        return False
    return any(isinstance(one, str) and (module == one or module.endswith(f".{one}")) for one in wanted)


def _layer_index(module: str, patterns: Any) -> int | None:
    names = patterns if isinstance(patterns, list) else [patterns] if patterns else []
    found = [re.match(rf".*\.{re.escape(str(one))}\.(?P<index>\d+)\.", module) for one in names] or [
        LAYER.match(module)
    ]
    return next((int(one["index"]) for one in found if one), None)
