"""Corrects a base or merged folder: configs from what is stored, files from the folder it was tuned from.

Knows no adapter.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from service.audit.stops import never_stops
from service.checkpoint.reading import PROCESSOR_FILES
from service.checkpoint.weights import INDEX, WeightFiles, base_weight_files
from service.domain.facts import BaseFacts
from service.domain.minicpmv import MODEL_TYPE
from service.repair.change import Change

CONFIG, GENERATION = "config.json", "generation_config.json"
MARKERS = ("image_start_id", "image_end_id", "slice_start_id", "slice_end_id")


def complete_stop_set(
    folder: Path, base: BaseFacts, origin: BaseFacts | None, official: Iterable[int] = ()
) -> list[Change]:
    """Write the turn's end, and whatever the origin or official code stops at, into generation_config.json.

    What can end nothing is taken out of it, and out of config.json.
    """
    changes = _correct_config_stops(folder, base)
    wanted = [one for one in base.stop_ids if _is_stop(one, base)]
    template = base.template
    extra = [template.turn_end_id] if template and template.turn_end_id is not None else []
    for one in (*extra, *(origin.stop_ids if origin else ()), *official):
        if one not in wanted:
            wanted.append(one)
    document = base.documents.get(GENERATION, {})
    if not wanted or document.get("eos_token_id") in (wanted, wanted[0] if len(wanted) == 1 else wanted):
        return changes
    _write(folder / GENERATION, {**document, "eos_token_id": wanted})
    change = Change(GENERATION, "eos_token_id", document.get("eos_token_id"), wanted, "the template ends answers there")
    return [*changes, change]


def add_origin_stops(folder: Path, base: BaseFacts, origin: BaseFacts | None) -> list[Change]:
    """Add what the origin stops at, and look up no token: the folder's tokenizer cannot be believed."""
    wanted = list(dict.fromkeys((*base.stop_ids, *(origin.stop_ids if origin else ()))))
    if wanted == list(base.stop_ids):
        return []
    document = base.documents.get(GENERATION, {})
    _write(folder / GENERATION, {**document, "eos_token_id": wanted})
    return [Change(GENERATION, "eos_token_id", document.get("eos_token_id"), wanted, "the origin stops there")]


def _correct_config_stops(folder: Path, base: BaseFacts) -> list[Change]:
    never, template = never_stops(base), base.template
    end = template.turn_end_id if template else None

    def stops(part: dict[str, Any]) -> dict[str, Any]:
        said = part.get("eos_token_id")
        ids = said if isinstance(said, list) else [said]
        kept = [one for one in ids if one not in never]
        if len(kept) == len(ids) or (not kept and end is None):
            return {}
        return {"eos_token_id": kept if isinstance(said, list) and kept else (kept or [end])[0]}

    if not base.documents.get(CONFIG):
        return []
    return _edit(folder, stops, "the other token opens turns or marks pictures")


def correct_ids(folder: Path, base: BaseFacts, *, is_tokenizer_sound: bool = True) -> list[Change]:
    """Write the tokenizer's ids of placeholders, the stored rows and the stored tie into config.json.

    Args:
        folder: The copy to correct.
        base: Facts of it.
        is_tokenizer_sound: Its ids can be believed.
    """
    tokenizer = base.tokenizer
    named = tokenizer.named if tokenizer and is_tokenizer_sound else {}

    def ids(part: dict[str, Any]) -> dict[str, Any]:
        wanted = {f"{role}_id": one for role, one in named.items() if role in ("image_token", "video_token")}
        wanted |= {key: named.get(f"{key.removesuffix('_id')}_token") for key in MARKERS if key in part}
        is_needed = base.model_type != MODEL_TYPE  # which finds pictures by text
        known = {key: one for key, one in wanted.items() if one is not None}
        return {key: one for key, one in known.items() if key in part or (is_needed and key == "image_token_id")}

    changes = []
    if base.model_type and "image_token" in named:
        changes += _edit(folder, ids, "tokenizer.json gives the token this id")
    if base.embedding:
        rows = base.embedding.num_rows
        changes += _edit(folder, lambda part: {"vocab_size": rows} if "vocab_size" in part else {}, "rows stored")
    changes += _correct_tie(folder, base)
    return changes


def complete_files(folder: Path, origin: Path, unreadable: Collection[str], *, is_pictures_wrong: bool) -> list[Change]:
    """Copy processor files, templates and code that the origin has and the folder lacks or cannot read.

    Args:
        folder: The copy to correct.
        origin: Where the sound files are.
        unreadable: Files of the folder that are there and no use.
        is_pictures_wrong: Also replace processor files that differ from the origin's.
    """
    changes = []
    for path in sorted(origin.iterdir()):
        is_processor = path.name in PROCESSOR_FILES
        if not path.is_file() or not (is_processor or path.suffix == ".py" or path.name == GENERATION):
            continue
        old = _state(folder / path.name, path, unreadable)
        if old in ("missing", "unreadable") or (old == "different" and is_processor and is_pictures_wrong):
            shutil.copyfile(path, folder / path.name)
            changes.append(Change(path.name, "the whole file", old, "the origin's", _why(old)))
    return changes


def weights_of(folder: Path) -> WeightFiles:
    """Open a folder's weights."""
    index = folder / INDEX
    shards = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
    return WeightFiles(base_weight_files(folder, shards))


def _state(path: Path, origin: Path, unreadable: Collection[str]) -> str:
    """Say what a file is beside the origin's."""
    if not path.is_file():
        return "missing"
    if path.name in unreadable:
        return "unreadable"
    return "same" if path.read_bytes() == origin.read_bytes() else "different"


def _why(state: str) -> str:
    return "pictures are read as in training" if state == "different" else "needed to load"


def _correct_tie(folder: Path, base: BaseFacts) -> list[Change]:
    """Two different matrices are two, whatever the flags say. A missing head needs the origin."""
    if not base.head or not base.embedding or base.head.is_copy:
        return []
    reason = "two different matrices are stored"
    return _edit(folder, lambda part: {"tie_word_embeddings": False} if part.get("tie_word_embeddings") else {}, reason)


def _is_stop(token_id: int, base: BaseFacts) -> bool:
    """Say whether an id can end an answer: not a piece of ordinary text, and one that there is."""
    tokenizer = base.tokenizer
    if tokenizer is None:
        return True
    special = {one.token_id for one in tokenizer.added.values()} | set(tokenizer.named.values())
    return token_id in special and token_id not in never_stops(base)


def _edit(folder: Path, wanted: Callable[[dict[str, Any]], Mapping[str, Any]], reason: str) -> list[Change]:
    """Change fields at the top of config.json and in its language part."""
    path = folder / CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    changes = []
    parts = [("", config), ("text_config.", config.get("text_config"))]
    for prefix, part in parts:
        if not isinstance(part, dict):
            continue
        for key, value in wanted(part).items():
            if part.get(key) != value and (not prefix or key in part):
                changes.append(Change(CONFIG, prefix + key, part.get(key), value, reason))
                part[key] = value
    if changes:
        _write(path, config)
    return changes


def _write(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
