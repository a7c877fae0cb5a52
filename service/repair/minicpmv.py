"""Corrects a MiniCPM-V 2.6, 4.0 or 4.5 from its own tensors, and from what all official files have alike.

Copies nothing from another folder; what neither the tensors nor the official files prove stays as it is.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from service.audit.older_minicpmv import SCALE_RESOLUTION, official_stops, stored_version, tower_layers
from service.domain.facts import BaseFacts
from service.domain.minicpmv import MARKERS, MODEL_TYPE, version_of
from service.repair.change import Change

CONFIG, SETTINGS, TOKENIZER = "config.json", "preprocessor_config.json", "tokenizer.json"
PATCHES, QUERY = "vpm.embeddings.patch_embedding.weight", "resampler.query"
TENSORS, OFFICIAL = "the tensors say so", "every official file has it"
COLOURS = [0.5, 0.5, 0.5]
EATING = ("lstrip", "rstrip", "single_word")
Wanted = Iterator[tuple[str, Any, str]]
"""Key, dotted where it lies deeper; the right value; the reason."""


def correct_minicpmv(folder: Path, base: BaseFacts) -> list[Change]:
    """Correct config.json, preprocessor_config.json and the markers' flags of a copy.

    Args:
        folder: The copy.
        base: Facts of it.

    Returns:
        The changes; none for another model type.
    """
    if base.model_type != MODEL_TYPE:
        return []
    changes = _write(folder, CONFIG, base, _config(base))
    changes += _write(folder, SETTINGS, base, _settings(base))
    return changes + _marker_flags(folder)


def stops_of(base: BaseFacts) -> tuple[int, ...]:
    """Return the ids at which the official `chat()` of the folder's version stops; none of another model type.

    None either as long as the version is wrong.
    """
    return tuple(official_stops(base).values())


def _config(base: BaseFacts) -> Wanted:
    config = base.documents.get(CONFIG, {})
    if (version := stored_version(base.tensors, config)) and version_of(config) != f"{version}":
        yield "version", version, "the language model's tensors are of this version"
    declared, stored = _of(config, "vision_config").get("num_hidden_layers"), tower_layers(base.tensors)
    if isinstance(declared, int) and stored in (declared, declared - 1):
        yield "drop_vision_last_layer", stored < declared, f"the tower has {stored} of {declared} layers"
    if (rows := _queries(base)) is not None:
        yield "query_num", rows, f"{QUERY} has as many rows"
    for name in ("", "vision_config.", "slice_config."):
        part = _of(config, name.rstrip(".")) if name else config
        if (patch := _patch(base)) and "patch_size" in part:
            yield f"{name}patch_size", patch, f"{PATCHES} has this size"


def _settings(base: BaseFacts) -> Wanted:
    settings, tokenizer, patch = base.documents.get(SETTINGS, {}), base.tokenizer, _patch(base)
    rows = _queries(base)
    if rows is not None and settings.get("image_feature_size", 64) != rows:
        yield "image_feature_size", rows, f"{QUERY} has as many rows"
    if patch and settings.get("patch_size", 14) != patch:
        yield "patch_size", patch, f"{PATCHES} has this size"
    for key in ("norm_mean", "norm_std"):
        if key in settings and settings[key] != COLOURS:
            yield key, COLOURS, OFFICIAL
    side = settings.get("scale_resolution")
    if isinstance(side, int) and patch and side < patch:
        size: Any = base.documents.get("config.json", {}).get("image_size")
        is_known = isinstance(size, int) and size >= patch
        yield "scale_resolution", size if is_known else SCALE_RESOLUTION, OFFICIAL
    for name, text in MARKERS.items():
        if settings.get(name) not in (None, text) and tokenizer and text in tokenizer.added:
            yield name, text, OFFICIAL


def _marker_flags(folder: Path) -> list[Change]:
    """Make markers special, and take from them what swallows the text beside them."""
    path = folder / TOKENIZER
    document = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    changes = []
    for token in document.get("added_tokens") or []:
        if token.get("content") not in MARKERS.values():
            continue
        for flag, value in {"special": True, **dict.fromkeys(EATING, False)}.items():
            if bool(token.get(flag)) != value:
                what = f"{flag} of {token['content']}"
                changes.append(Change(TOKENIZER, what, token.get(flag), value, "a marker of pictures"))
                token[flag] = value
    if changes:
        path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return changes


def _write(folder: Path, file: str, base: BaseFacts, wanted: Wanted) -> list[Change]:
    """Change keys of a JSON file that the folder has."""
    if not base.documents.get(file):
        return []
    document = json.loads((folder / file).read_text(encoding="utf-8"))
    changes = []
    for key, value, reason in wanted:
        outer, _, inner = key.rpartition(".")
        part = document[outer] if outer else document
        if part.get(inner) != value:
            changes.append(Change(file, key, part.get(inner), value, reason))
            part[inner] = value
    if changes:
        (folder / file).write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return changes


def _queries(base: BaseFacts) -> int | None:
    """Return the number of queries that the tensor and another place agree on: rows of the tensor may be lost."""
    query, config, settings = base.tensors.get(QUERY), base.documents.get(CONFIG, {}), base.documents.get(SETTINGS, {})
    said = config.get("query_num"), settings.get("image_feature_size", 64)
    return query.shape[0] if query and query.shape and query.shape[0] in said else None


def _patch(base: BaseFacts) -> int | None:
    tensor = base.tensors.get(PATCHES)
    return tensor.shape[-1] if tensor and len(tensor.shape) == 4 else None


def _of(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = config.get(name)
    return part if isinstance(part, dict) else {}
