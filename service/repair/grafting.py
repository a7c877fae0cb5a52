"""Adds tensors that a folder lost from the folder that it was tuned from, where tuning cannot have changed them.

Reads no value of a tensor.
"""

import json
import re
from pathlib import Path

from service.checkpoint.weights import INDEX, WHOLE, WeightFiles
from service.domain.facts import BaseFacts, OriginFacts
from service.repair.change import Change
from service.repair.headers import write_tensors

EXTRA = "model-grafted.safetensors"
NUMBER = re.compile(r"\d+")


def what_to_graft(base: BaseFacts, origin: OriginFacts) -> tuple[list[str], list[str]]:
    """Split what the folder lost into tensors that the origin can give, and reasons why it cannot give the others.

    A tensor whose like tuning changed elsewhere in the folder (the same module of another layer, the other vocabulary
    matrix) was tuned too: the origin's would load, and silently undo it.
    """
    lost = [one for one in origin.missing if not one.endswith("lm_head.weight") or base.is_tied is False]
    if not lost:
        return [], []
    if not base.tensors:
        return [], ["no tensor of the folder can be read, and those of the origin would be the origin, untuned"]
    if damaged := sorted({one.file for one in base.problems if one.file.endswith(".safetensors")} & set(base.files)):
        return [], [f"{damaged[0]} is damaged: what was tuned in it is lost, so copy it again"]
    vocabulary = {one.tensor for one in (origin.base.embedding, origin.base.head) if one}
    tuned = {_kind(one, vocabulary) for one in origin.changed}
    declined = [one for one in lost if _kind(one, vocabulary) in tuned]
    return [one for one in lost if one not in declined], [_undoing(declined)] if declined else []


def graft_tensors(folder: Path, weights: WeightFiles, origin: WeightFiles, missing: list[str]) -> list[Change]:
    """Write tensors of the origin into a shard of their own."""
    if not missing:
        return []
    files = {name: tensor.file for name, tensor in weights.tensors.items()}
    if (folder / WHOLE).is_file():
        (folder / WHOLE).rename(folder / "model-00001-of-00002.safetensors")
        files = dict.fromkeys(files, "model-00001-of-00002.safetensors")
    write_tensors(folder / EXTRA, origin, missing)
    files |= dict.fromkeys(missing, EXTRA)
    document = {"metadata": {}, "weight_map": files}
    (folder / INDEX).write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return [Change(EXTRA, name, None, "the origin's", "no file held it") for name in missing]


def _undoing(declined: list[str]) -> str:
    return (
        f"{len(declined)} lost tensor(s) were tuned as their like was, first {declined[0]}: the origin's would undo "
        "that, so copy the files again from where they were trained"
    )


def _kind(name: str, vocabulary: set[str]) -> str:
    """Return what tensors of the same place in other layers share."""
    return "vocabulary" if name in vocabulary else NUMBER.sub("*", name)
