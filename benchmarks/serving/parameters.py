"""Counts what a checkpoint's files hold, by part of the model, from their headers.

Knows names and shapes of tensors, no values.
"""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

BYTES = {"BF16": 2, "F16": 2, "F32": 4}
VOCABULARY, LAYERS, VISION = "vocabulary", "text layers", "vision"


def sizes(folder: Path) -> Mapping[str, tuple[int, int]]:
    """Return parameters and bytes of every tensor."""
    found = {}
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        for name, entry in header.items():
            if name != "__metadata__":
                count = math.prod(entry["shape"])
                found[name] = (count, count * BYTES[entry["dtype"]])
    return found


def part_of(name: str) -> str:
    """Return which part of the model a tensor belongs to."""
    if "embed_tokens" in name or "lm_head" in name:
        return VOCABULARY
    return LAYERS if "language_model" in name else VISION


def describe_parameters(folder: Path) -> str:
    """Return the counts as one line."""
    counts = dict.fromkeys((VOCABULARY, LAYERS, VISION), 0)
    for name, (count, _) in sizes(folder).items():
        counts[part_of(name)] += count
    told = ", ".join(f"{part} {count / 1e6:.1f} M" for part, count in counts.items())
    return f"{sum(counts.values()) / 1e6:.1f} M parameters in bfloat16 ({told})"


def bytes_per_step(folder: Path) -> int:
    """Return how many bytes of weights one step of decoding reads: the text layers and the head, not the embedding."""
    known = sizes(folder)
    has_head = any("lm_head" in name for name in known)
    return sum(
        size
        for name, (_, size) in known.items()
        if part_of(name) == LAYERS or (part_of(name) == VOCABULARY and ("lm_head" in name or not has_head))
    )
