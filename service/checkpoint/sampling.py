"""Describes inner tensors by some of their rows: spread, codes, the order of a kernel's pixels, and repetitions.

Knows no tensor's purpose and no threshold. Of a large tensor a few stretches of rows are read.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.checkpoint.likeness import LAYER, numbers_in
from service.checkpoint.weights import FloatArray, WeightFiles
from service.domain.facts import KernelFacts, SampleFacts, VectorFacts

SAMPLE_VALUES, NUM_STRETCHES, MIN_ROWS = 65_536, 8, 16
MIN_VALUES, MIN_SIDE = 1_024, 8
"""Smaller tensors show nothing by their spread."""
MAX_VECTOR = 1_000_000
BORDERS = (-1, 0, 1)
LARGEST_INTEGER = 255
CODES = {"F8_E5M2": (21, 57_344.0), "F8_E4M3": (20, 448.0)}
"""Bits of a float32 that are clear in every value of the type, and its largest value; the narrower first."""
MIN_KERNEL, MAX_CHANNELS = 7, 4
ORDERS = {
    "(out, height, width, channels)": (0, 2, 3, 1),
    "(height, width, channels, out)": (2, 3, 1, 0),
    "(channels, height, width, out)": (1, 2, 3, 0),
}
"""In which order other frameworks write (out, channels, height, width)."""


@dataclass(frozen=True, slots=True)
class Samples:
    """What was found; the attributes are those of `InnerFacts`."""

    vectors: Mapping[str, VectorFacts]
    samples: Mapping[str, SampleFacts]
    kernels: Mapping[str, KernelFacts]
    repeated: Mapping[str, str]


def sample_tensors(weights: WeightFiles, names: Collection[str]) -> Samples:
    """Describe tensors whose values are finite and not all zero, vectors excepted."""
    vectors, samples, kernels, digests = {}, {}, {}, {}
    for name in names:
        shape = weights.tensors[name].shape
        if len(shape) == 1 and 0 < shape[0] <= MAX_VECTOR:
            vectors[name] = _vector(_read(weights, name))
        elif len(shape) > 1 and weights.num_values(name) >= MIN_VALUES:
            rows = _some_rows(weights, name)
            digests[name] = hashlib.blake2b(rows.tobytes(), digest_size=16).hexdigest()
            with np.errstate(over="ignore", invalid="ignore"):  # squares of large values
                if min(rows.shape) >= MIN_SIDE:
                    samples[name] = _sample(rows)
                if _looks_at_pixels(shape):
                    kernels[name] = _kernel(_read(weights, name).reshape(shape))
    return Samples(vectors, samples, kernels, _repeated(weights, digests))


def _vector(values: FloatArray) -> VectorFacts:
    up_to = {border: float(np.mean(values <= border)) for border in BORDERS}
    return VectorFacts(float(values.min()), float(values.max()), float(np.percentile(values, 5)), up_to)


def _some_rows(weights: WeightFiles, name: str) -> FloatArray:
    """Read stretches of rows from everywhere in a tensor, `(rows, values in a row)`."""
    shape, count = weights.tensors[name].shape, weights.num_values(name)
    length = count // shape[0]
    if length > SAMPLE_VALUES:  # one matrix for each expert
        length = shape[-1]
    num_rows = count // length
    wanted = min(num_rows, max(MIN_ROWS, SAMPLE_VALUES // length))
    if wanted == num_rows:
        return _read(weights, name).reshape(num_rows, length)
    step = wanted // NUM_STRETCHES
    starts = [int(one) for one in np.linspace(0, num_rows - step, NUM_STRETCHES)]
    pieces = [_read(weights, name, start * length, (start + step) * length) for start in starts]
    return np.concatenate(pieces).reshape(-1, length)


def _read(weights: WeightFiles, name: str, start: int = 0, stop: int | None = None) -> FloatArray:
    """Read values into memory of its own; pages of a memory map would count as the process's."""
    return np.concatenate(list(weights.float_pieces(name, start, stop)))


def _sample(rows: FloatArray) -> SampleFacts:
    squares = np.square(rows, dtype=np.float32)
    of_rows, of_columns = squares.mean(axis=1, dtype=np.float64), squares.mean(axis=0, dtype=np.float64)
    mean_square = float(of_rows.mean())
    fourth = float(np.square(squares).mean(dtype=np.float64))
    kurtosis = fourth / mean_square**2 if mean_square > 0 and np.isfinite(fourth) else 0.0
    return SampleFacts(
        num_values=int(rows.size),
        num_rows=len(rows),
        deviation=float(rows.std(dtype=np.float64)),
        kurtosis=kurtosis,
        row_spread=_spread(of_rows, rows.shape[1], kurtosis),
        column_spread=_spread(of_columns, rows.shape[0], kurtosis),
        grid=_grid(rows),
        largest=float(np.abs(rows).max()),
    )


def _spread(mean_squares: NDArray[np.float64], count: int, kurtosis: float) -> float:
    """Divide how much lengths vary by how much those of `count` independent values of one distribution do."""
    lengths = np.sqrt(mean_squares)
    expected = np.sqrt(max(kurtosis - 1, 0.1) / (4 * count))
    return float(lengths.std() / lengths.mean() / expected) if lengths.any() else 0.0


def _grid(rows: FloatArray) -> str | None:
    largest = float(np.abs(rows).max())
    if largest <= LARGEST_INTEGER and (rows == np.rint(rows)).all():
        return "integers"
    bits = np.bitwise_or.reduce(rows.view(np.uint32), axis=None)
    fitting = (name for name, (clear, most) in CODES.items() if largest <= most and not int(bits) & ((1 << clear) - 1))
    return next(fitting, None)


def _looks_at_pixels(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[2] == shape[3] >= MIN_KERNEL and shape[1] <= MAX_CHANNELS


def _kernel(values: FloatArray) -> KernelFacts:
    in_order = {}
    for order, axes in ORDERS.items():
        written = values.reshape([values.shape[axis] for axis in axes])
        in_order[order] = _smoothness(written.transpose(np.argsort(axes)))
    return KernelFacts(_smoothness(values), in_order)


def _smoothness(values: FloatArray) -> float:
    """Correlate pixels with their neighbours below and beside, the mean of each kernel left out."""
    values = values - values.mean(axis=(2, 3), keepdims=True)
    below = _correlation(values[:, :, 1:], values[:, :, :-1])
    beside = _correlation(values[..., 1:], values[..., :-1])
    return min(below, beside)


def _correlation(left: FloatArray, right: FloatArray) -> float:
    size = float(np.sqrt(np.square(left).sum(dtype=np.float64) * np.square(right).sum(dtype=np.float64)))
    return float((left * right).sum(dtype=np.float64)) / size if size > 0 else 0.0


def _repeated(weights: WeightFiles, digests: Mapping[str, str]) -> dict[str, str]:
    kinds: dict[tuple[str, tuple[int, ...], str], list[str]] = defaultdict(list)
    for name, digest in digests.items():
        kinds[LAYER.sub(".*.", name), weights.tensors[name].shape, digest].append(name)
    found: dict[str, str] = {}
    for names in kinds.values():
        first, *others = sorted(names, key=numbers_in)
        found |= dict.fromkeys(others, first)
    return found
