"""Finds parts of a model that are as before training: matrices that look like one draw, norms of one, biases of zero.

Pure arithmetic on facts; what follows from it is decided in `checks/inner_weights.py`.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from service.audit.row_states import initializer_range
from service.audit.tensors_in_use import tensors_in_use
from service.domain.facts import BaseFacts, SampleFacts

DEVIATIONS = 4.0
"""How far a statistic of a fresh draw may be off what it is on average, in its own standard deviations."""
LOWEST_KURTOSIS, NORMAL_KURTOSIS, KURTOSIS_MARGIN = 1.7, 3.0, 0.1
"""Fresh values are drawn from a uniform distribution (1.8), from a normal one, or from one that was cut off."""
SAME_DEVIATION = 0.02
"""Share by which a fresh matrix may miss the deviation that config.json names."""
MIN_TRAINED = 0.5
"""Share of a model's tensors that must be trained before a part that is not stands out."""
MOST_MOVED = 0.05
"""Share of matrices that look like a draw of another deviation: one in seven after 300 steps at 3e-4 from scratch."""
MIN_DRAWN = 4096
"""A matrix with fewer values shows too little by itself."""


@dataclass(frozen=True, slots=True)
class UntrainedPart:
    """A part of a model whose tensors are all as before training.

    Attributes:
        name: As tensors' names begin.
        matrices: Those that look like one draw.
        vectors: Those that are one throughout, or zero.
        num_trained: Of the model's other tensors those that were trained.
    """

    name: str
    matrices: tuple[str, ...]
    vectors: tuple[str, ...]
    num_trained: int


def untrained_parts(base: BaseFacts) -> list[UntrainedPart]:
    """Find the largest parts that are as before training, in a model that mostly is not.

    A part is told by vectors that are exactly one or zero beside matrices that look like one draw, or by matrices
    alone that are drawn with the deviation of config.json. In a model that was trained shortly many matrices still look
    like a draw, of a deviation that has moved: there matrices alone show nothing.
    """
    drawn, even = _as_drawn(base), _as_begun(base)
    if not _is_mostly_trained([*drawn.values(), *even.values()]):
        return []
    num_trained = sum(not one for one in (*drawn.values(), *even.values()))
    below: dict[str, list[str]] = defaultdict(list)
    for name in (*drawn, *even):
        for above in _above(name):
            below[above].append(name)
    begun = {one: names for one, names in below.items() if all(drawn.get(name, even.get(name)) for name in names)}
    found = {one for one, names in begun.items() if 1 < sum(name in drawn for name in names) < len(names)}
    large = {name for name in drawn if drawn[name] and base.inner.samples[name].num_values >= MIN_DRAWN}
    fresh = {name for name in large if _is_fresh(base.inner.samples[name], base)}
    moved = large - fresh - {name for one in found for name in begun[one]}
    if len(moved) <= MOST_MOVED * len(drawn):
        found |= {one for one, names in begun.items() if (matrices := drawn.keys() & names) and matrices <= fresh}
    largest = sorted(one for one in found if not any(above in found for above in _above(one)[:-1]))
    return [_part(one, below[one], drawn, num_trained) for one in largest]


def _is_mostly_trained(states: list[bool]) -> bool:
    """Say whether most tensors are not as before training; false if there are none."""
    return bool(states) and states.count(False) >= MIN_TRAINED * len(states)


def _as_drawn(base: BaseFacts) -> dict[str, bool]:
    """Say of each matrix in use whether it looks like one draw."""
    used = tensors_in_use(base)
    return {name: _looks_drawn(one) for name, one in base.inner.samples.items() if name in used}


def _as_begun(base: BaseFacts) -> dict[str, bool]:
    """Say of each norm and bias in use whether it is one throughout, or zero; other vectors show nothing."""
    used = tensors_in_use(base)
    begun = {
        name: one.low == one.high and one.low in (0.0, 1.0) for name, one in base.inner.vectors.items() if name in used
    }
    return {name: is_even for name, is_even in begun.items() if is_even or name.endswith(("weight", "bias"))}


def _part(name: str, names: Collection[str], drawn: Mapping[str, bool], num_trained: int) -> UntrainedPart:
    matrices = tuple(sorted(one for one in names if one in drawn))
    return UntrainedPart(name, matrices, tuple(sorted(set(names) - set(matrices))), num_trained)


def _is_fresh(sample: SampleFacts, base: BaseFacts) -> bool:
    """Say whether a matrix that looks like a draw has the deviation that config.json names."""
    wanted = initializer_range(base.documents.get("config.json", {}))
    return abs(sample.deviation - wanted) <= SAME_DEVIATION * wanted


def _looks_drawn(sample: SampleFacts) -> bool:
    """Say whether values are of one uniform or normal distribution, rows and columns alike."""
    highest = NORMAL_KURTOSIS + KURTOSIS_MARGIN + DEVIATIONS * math.sqrt(24 / sample.num_values)
    if not LOWEST_KURTOSIS <= sample.kurtosis <= highest:
        return False
    num_columns = sample.num_values / sample.num_rows
    return all(
        spread <= 1 + DEVIATIONS / math.sqrt(2 * count)
        for spread, count in ((sample.row_spread, sample.num_rows), (sample.column_spread, num_columns))
    )


def _above(name: str) -> list[str]:
    """Return the modules that something lies in, and itself, the outermost first."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
