"""Restores config.json from the folder that a model was tuned from, and names every setting that this changes.

Knows no tensor.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.domain.facts import BaseFacts
from service.repair.change import Change

CONFIG = "config.json"
OWN_FIELDS = ("dtype", "torch_dtype", "transformers_version")
TYPES = frozenset({"float64", "float32", "float16", "bfloat16"})
TYPE_FIELDS = frozenset({"dtype", "torch_dtype"})


def restore_config(folder: Path, base: BaseFacts, origin: BaseFacts) -> list[Change]:
    """Take the origin's config.json, with the type that the folder itself says its weights have."""
    old, new = base.documents.get(CONFIG, {}), dict(origin.documents.get(CONFIG, {}))
    kept = {name: old[name] for name in OWN_FIELDS if name in old and _is_usable(name, old[name])}
    restored = {**{name: value for name, value in new.items() if name not in kept}, **kept}
    if restored == old or not new:
        return []
    (folder / CONFIG).write_text(json.dumps(restored, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    before, after = _leaves(old), _leaves(restored)
    return [
        Change(CONFIG, name, before.get(name), after.get(name), "the origin's: tuning changes no setting of the model")
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _is_usable(name: str, value: Any) -> bool:
    return name not in TYPE_FIELDS or value in TYPES


def _leaves(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return every setting by its dotted name."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping) and value:
            found |= _leaves(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
