"""Reads safetensors: names, shapes and dtypes from headers, values by memory map.

Knows the file format and, of models, only what loading leaves out. No pickle file is ever opened.
"""

import errno
import hashlib
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from service.checkpoint.documents import POINTER, is_pointer
from service.domain.facts import FileProblem, TensorFacts, ValueFacts
from service.domain.minicpmv import LEFT_OUT
from service.wording import without_folders

FloatArray = NDArray[np.float32]

STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""How each floating type lies in the file, as numpy names it; bfloat16 is the upper half of a float32."""

CHUNK_VALUES = 16_000_000
CACHED_VALUES = 256_000
"""As float32 they fit a core's own cache, so that several passes over a piece cost one over the memory."""
PIECE_VALUES = 2_000_000
"""Pieces that are turned into float64, two at a time."""
PIECE_BYTES = 8_000_000
MAX_HEADER_BYTES = 32_000_000
"""The header of a model of 100,000 tensors is about 12 MB."""
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, slots=True)
class Survey:
    """What a matrix's rows show by themselves.

    Attributes:
        norms: `(rows,)`; not a number where a value of the row is not finite.
        total: `(hidden,)`, the sum of the rows, values that are not finite left out.
        num_nonfinite: Values of the matrix.
    """

    norms: NDArray[np.float64]
    total: NDArray[np.float64]
    num_nonfinite: int


class WeightFiles:
    """The safetensors files of one folder.

    Args:
        files: Paths; a file that cannot be read becomes a problem and contributes no tensor.

    Attributes:
        tensors: What the headers declare, by tensor name.
        problems: Files that are missing, truncated or not safetensors.
        surveys: What was measured of all rows of a matrix so far, by tensor name.
    """

    def __init__(self, files: list[Path]) -> None:
        self.tensors: dict[str, TensorFacts] = {}
        self.problems: list[FileProblem] = []
        self.surveys: dict[str, Survey] = {}
        self._places: dict[str, tuple[Path, int]] = {}
        self._digests: dict[str, str] = {}
        self._num_bytes: dict[str, int] = {}
        for path in files:
            self._add(path)

    def values(self, name: str) -> FloatArray:
        """Read one tensor whole, as float32 in its shape."""
        return _to_float32(self._stored(name), self.tensors[name].dtype).reshape(self.tensors[name].shape)

    def row_chunks(self, name: str) -> Iterator[FloatArray]:
        """Read a matrix in blocks of rows, as float32 `(rows, hidden)`, so that memory stays bounded."""
        num_rows, hidden = self.tensors[name].shape
        stored = self._stored(name).reshape(num_rows, hidden)
        step = max(1, CHUNK_VALUES // max(hidden, 1))
        for start in range(0, num_rows, step):
            yield _to_float32(stored[start : start + step], self.tensors[name].dtype)

    def rows_per_chunk(self, name: str) -> int:
        """Return how many rows `cached_row_chunks` gives at a time."""
        return max(1, CACHED_VALUES // max(self.tensors[name].shape[1], 1))

    def cached_row_chunks(self, name: str) -> Iterator[FloatArray]:
        """Read a matrix as `row_chunks` does, in pieces for a processor's cache."""
        num_rows, hidden = self.tensors[name].shape
        path, offset = self._places[name]
        stored = np.dtype(STORED[self.tensors[name].dtype])
        step = self.rows_per_chunk(name)
        with path.open("rb", buffering=0) as file:  # pages of a memory map would count as the process's own
            file.seek(offset)
            for start in range(0, num_rows, step):
                piece = np.empty((min(step, num_rows - start), hidden), dtype=stored)
                if file.readinto(piece.data.cast("B")) != piece.nbytes:
                    raise OSError(errno.EIO, "the file became shorter while it was read", path.name)
                yield _to_float32(piece, self.tensors[name].dtype)

    def chunks(self, name: str) -> Iterator[FloatArray]:
        """Read a tensor of any shape in flat pieces, as float32; tensors of equal size have equal pieces."""
        stored = self._stored(name)
        for start in range(0, stored.size, PIECE_VALUES):
            yield _to_float32(stored[start : start + PIECE_VALUES], self.tensors[name].dtype)

    def pieces(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[NDArray[Any]]:
        """Read the values from `start` to `stop` as they are stored, in flat pieces of at most PIECE_VALUES.

        Reads into memory of its own: pages of a memory map would count as the process's.
        """
        path, offset = self._places[name]
        stored = np.dtype(STORED[self.tensors[name].dtype])
        stop = self._count(name) if stop is None else stop
        with path.open("rb", buffering=0) as file:
            file.seek(offset + start * stored.itemsize)
            for at in range(start, stop, PIECE_VALUES):
                yield np.fromfile(file, dtype=stored, count=min(PIECE_VALUES, stop - at))

    def raw_pieces(self, name: str) -> Iterator[bytes]:
        """Read the bytes of a tensor of any type, piece by piece."""
        yield from _bytes_at(*self._places[name], self._num_bytes[name])

    def float_pieces(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[FloatArray]:
        """Read as `pieces` does, as float32."""
        for piece in self.pieces(name, start, stop):
            yield _to_float32(piece, self.tensors[name].dtype)

    def rows(self, name: str, ids: list[int]) -> FloatArray:
        """Read some rows of a matrix, as float32 `(len(ids), hidden)`."""
        num_rows, hidden = self.tensors[name].shape
        stored = self._stored(name).reshape(num_rows, hidden)
        return _to_float32(stored[ids], self.tensors[name].dtype)

    def is_matrix(self, name: str) -> bool:
        """Say whether the values can be read as rows."""
        shape = self.tensors[name].shape
        return self.is_float(name) and len(shape) == 2 and min(shape) > 0

    def digest(self, name: str) -> str:
        """Hash the bytes of one tensor as they lie in the file."""
        if name not in self._digests:
            digest = hashlib.sha256()  # processors have instructions for it
            for piece in self.raw_pieces(name):
                digest.update(piece)
            self._digests[name] = digest.hexdigest()[:32]
        return self._digests[name]

    def is_same(self, name: str, other: "WeightFiles", other_name: str) -> bool:
        """Say whether two tensors have the same bytes, shape and type."""
        if self.tensors[name].shape != other.tensors[other_name].shape:
            return False
        if self.tensors[name].dtype != other.tensors[other_name].dtype or not self.is_float(name):
            return False
        one, two = self._stored(name).view(np.uint8), other._stored(other_name).view(np.uint8)
        step = CHUNK_VALUES
        return all(np.array_equal(one[at : at + step], two[at : at + step]) for at in range(0, one.size, step))

    def num_values(self, name: str) -> int:
        """Count the values of a tensor."""
        return self._count(name)

    def num_bytes(self, name: str) -> int:
        """Return how many bytes a tensor takes in its file."""
        return self._num_bytes[name]

    def is_float(self, name: str) -> bool:
        """Say whether the values can be read; integers and 8-bit floats cannot."""
        return self.tensors[name].dtype in STORED

    def value_facts(self, name: str) -> ValueFacts:
        """Scan one tensor for NaN, infinity and zero."""
        stored = self._stored(name)
        num_nonfinite, largest, smallest = 0, 0.0, math.inf
        for start in range(0, stored.size, CHUNK_VALUES):
            chunk = np.abs(_to_float32(stored[start : start + CHUNK_VALUES], self.tensors[name].dtype))
            is_finite = np.isfinite(chunk)
            num_broken = int(chunk.size - np.count_nonzero(is_finite))
            num_nonfinite += num_broken
            kept = chunk[is_finite] if num_broken else chunk
            largest = max(largest, float(kept.max(initial=0)))
            smallest = min(smallest, float(kept.min(initial=math.inf)))
        is_all_zero = not largest and not num_nonfinite and stored.size > 0
        ends = (0, 0) if is_all_zero else (_num_zeros(stored), _num_zeros(stored[::-1]))
        return ValueFacts(int(stored.size), num_nonfinite, is_all_zero, largest, smallest, ends)

    def _stored(self, name: str) -> NDArray[Any]:
        path, offset = self._places[name]
        tensor = self.tensors[name]
        count = self._count(name)
        if count == 0:
            return np.empty(0, dtype=STORED[tensor.dtype])
        return np.memmap(path, dtype=STORED[tensor.dtype], mode="r", offset=offset, shape=(count,))

    def _count(self, name: str) -> int:
        return int(np.prod(self.tensors[name].shape, dtype=np.int64))

    def _add(self, path: Path) -> None:
        try:
            if not path.is_file():  # opening a pipe would wait for ever
                self.problems.append(FileProblem(path.name, "is missing, a broken link or not a regular file"))
                return
            if is_pointer(path):
                self.problems.append(FileProblem(path.name, POINTER))
                return
            if (length := _header_length(path)) > MAX_HEADER_BYTES:
                problem = f"declares a header of {length:,} bytes, more than the {MAX_HEADER_BYTES:,} that one may have"
                self.problems.append(FileProblem(path.name, problem))
                return
            with safe_open(path, framework="np") as opened:
                opened.keys()
            header, start = _read_header(path)
        except (SafetensorError, OSError, ValueError) as error:
            problem = _shortfall(path) or f"is not a valid safetensors file: {without_folders(str(error))}"
            self.problems.append(FileProblem(path.name, problem))
            return
        other: list[str] = []
        for name, entry in json.loads(header).items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            place, num_bytes = (path, start + begin), end - begin
            if name in self.tensors and not self._is_copy(name, place, num_bytes):
                other.append(name)
            self.tensors[name] = TensorFacts(tuple(entry["shape"]), entry["dtype"], path.name)
            self._places[name], self._num_bytes[name] = place, num_bytes
        if other:
            problem = f"holds {len(other)} tensor(s) with other values than another file does, first {other[0]}"
            self.problems.append(FileProblem(path.name, problem))

    def _is_copy(self, name: str, place: tuple[Path, int], num_bytes: int) -> bool:
        """Say whether a tensor that is already known lies at another place too, byte for byte."""
        if num_bytes != self._num_bytes[name]:
            return False
        pairs = zip(_bytes_at(*place, num_bytes), _bytes_at(*self._places[name], num_bytes), strict=True)
        return all(new == old for new, old in pairs)


def base_weight_files(folder: Path, index: Mapping[str, Any]) -> list[Path]:
    """List the safetensors files that transformers would load: the one whole file, else the index's shards.

    A shard that the index places outside the folder is replaced by a name in the folder, where it will be missing.
    """
    return [folder / WHOLE] if (folder / WHOLE).exists() else shard_files(folder, index)


def shard_files(folder: Path, index: Mapping[str, Any]) -> list[Path]:
    """List the shards of an index, whether they are there or not."""
    shards = index.get("weight_map")
    names = {str(one) for one in shards.values()} if isinstance(shards, dict) else set()
    return [folder / (Path(name).name or name) for name in sorted(names)]


def index_problems(weights: WeightFiles, index: Mapping[str, Any]) -> list[FileProblem]:
    """Compare an index with the shards that could be read: tensors that it names, loading takes, and no shard has."""
    shards = index.get("weight_map")
    if not isinstance(shards, dict):
        return [FileProblem(INDEX, "has no weight_map, so no shard can be found")]
    broken = {one.file for one in weights.problems}
    lost = [
        name
        for name, file in shards.items()
        if name not in weights.tensors and Path(str(file)).name not in broken and not LEFT_OUT.match(name)
    ]
    if not lost:
        return []
    return [FileProblem(INDEX, f"names {len(lost)} tensor(s) that no shard holds, first {lost[0]}")]


def pickle_files(folder: Path) -> list[str]:
    """Name the files that only unpickling could read."""
    return sorted(path.name for path in folder.iterdir() if path.suffix in PICKLE_SUFFIXES)


def _bytes_at(path: Path, offset: int, num_bytes: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while num_bytes > 0 and (piece := file.read(min(num_bytes, PIECE_BYTES))):
            num_bytes -= len(piece)
            yield piece


def _header_length(path: Path) -> int:
    """Return what the first eight bytes say; 0 if there are fewer, which `safe_open` reports."""
    with path.open("rb") as file:
        first = file.read(8)
    return int(struct.unpack("<Q", first)[0]) if len(first) == 8 else 0


def _read_header(path: Path) -> tuple[bytes, int]:
    """Return the header and where the data starts; `safe_open` has validated both."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return file.read(length), 8 + length


def _shortfall(path: Path) -> str:
    """Say how much a file lacks of what its header announces; empty if that is not what is wrong with it."""
    try:
        header, start = _read_header(path)
        ends = [entry["data_offsets"][1] for name, entry in json.loads(header).items() if name != "__metadata__"]
        size, needed = path.stat().st_size, start + max(ends)
        return f"was cut off: it has {size:,} bytes, its header announces {needed:,}" if size < needed else ""
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error, RecursionError):
        return ""


def _num_zeros(stored: NDArray[Any]) -> int:
    """Count the values before the first that is not zero, in pieces that grow, as there are hardly ever any."""
    start, step = 0, 1024
    while start < stored.size:
        piece = stored[start : start + step]
        found = np.flatnonzero(piece & 0x7FFF if piece.dtype.kind == "u" else piece)  # zeros may have a sign
        if len(found):
            return start + int(found[0])
        start, step = start + step, min(2 * step, CHUNK_VALUES)
    return int(stored.size)


def _to_float32(stored: NDArray[Any], dtype: str) -> FloatArray:
    if dtype == "BF16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)
