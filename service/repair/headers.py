"""Rewrites safetensors files without understanding a value: other names, or tensors added from elsewhere.

Streams; memory does not grow with the file. Source: the safetensors format, version 0.8.
"""

import json
import shutil
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from service.checkpoint.weights import WeightFiles

ALIGNMENT = 8


def rename_tensors(path: Path, new_name: Callable[[str], str]) -> None:
    """Give the tensors of a file other names; their bytes stay where they are."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    renamed = {name if name == "__metadata__" else new_name(name): entry for name, entry in header.items()}
    temporary = path.with_name(f".{path.name}.new")
    with path.open("rb") as source, temporary.open("wb") as target:
        source.seek(8 + length)
        _write_header(target, renamed)
        shutil.copyfileobj(source, target)
    temporary.replace(path)


def write_tensors(path: Path, source: WeightFiles, names: Iterable[str]) -> None:
    """Write some tensors of other files into a new one, byte for byte."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    chosen = list(names)
    for name in chosen:
        size = sum(len(piece) for piece in source.raw_pieces(name))
        tensor = source.tensors[name]
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [end, end + size]}
        end += size
    with path.open("wb") as target:
        _write_header(target, header)
        for name in chosen:
            for piece in source.raw_pieces(name):
                target.write(piece)


def _write_header(target: Any, header: dict[str, Any]) -> None:
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    target.write(struct.pack("<Q", len(text)))
    target.write(text)
