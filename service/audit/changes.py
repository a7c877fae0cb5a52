"""Prepares what changed between a tuned folder and its origin: what is in effect, and what of it tells anything.

Pure arithmetic on facts; what follows from it is decided in `checks/tuned_weights.py` and `checks/same_function.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from service.domain.facts import BaseFacts, NeuronOrder, OriginFacts, Reader, TensorChange

UNRELATED = 0.9
"""Turn beyond which two matrices have nothing in common; the demo's adapters turn theirs by up to 0.21."""
MIN_VALUES = 1024
"""Smaller matrices may turn far by chance."""
RISKY = 0.4
"""Share of its values that were cut to zero, from which on that is said of a matrix and nothing else."""
CLOSE = 0.25
"""How far from the whole inverse scale a matrix may be that holds it and was tuned."""
ERRORS = 3


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed, by tensor.

    Attributes:
        origin: The facts that it was taken from.
        base: The tuned folder.
        vocabulary: Names of the vocabulary matrices.
        matrices: Changes in effect of matrices that are large enough to tell anything, and hold no rearranged values.
        uncut: Those of them of which little was cut to zero, or all.
        total: Number of the origin's matrices that are so large.
    """

    origin: OriginFacts
    base: BaseFacts
    vocabulary: frozenset[str]
    matrices: Mapping[str, TensorChange]
    uncut: Mapping[str, TensorChange]
    total: int

    @property
    def unrelated(self) -> list[str]:
        """Matrices that have nothing in common with the origin's."""
        return [name for name, one in self.uncut.items() if one.turn > UNRELATED]

    @property
    def is_of_another_origin(self) -> bool:
        """Most matrices have nothing in common with the origin's."""
        return 2 * len(self.unrelated) > self.total

    def is_telling(self, name: str) -> bool:
        """Say whether a tensor is a large matrix that could resemble the origin's."""
        return _is_telling(name, self.origin.changed[name], self.base)


def changes_of(origin: OriginFacts, base: BaseFacts) -> Changes:
    """Prepare what changed."""
    matrices = {
        name: one
        for name, one in in_effect(origin).items()
        if one.is_finite and one.rearranged is None and _is_telling(name, one, base)
    }
    return Changes(
        origin=origin,
        base=base,
        vocabulary=frozenset(one.tensor for one in (base.embedding, base.head) if one),
        matrices=matrices,
        uncut={name: one for name, one in matrices.items() if not RISKY <= one.cut < 1},
        total=sum(_is_large(one.shape) for one in origin.base.tensors.values()),
    )


def in_effect(origin: OriginFacts) -> dict[str, TensorChange]:
    """Return what changed, by tensor, without what cancels out and without what `same_function` says."""
    held = {
        name: one.undone
        for shift in origin.same.norms.values()
        for name, one in shift.readers.items()
        if holds_inverse(one) and name in origin.changed
    }
    told = {name for one in origin.same.neurons if is_mixed(one) for name in one.alone}
    return {name: one for name, one in {**origin.changed, **held, **origin.same.undone}.items() if name not in told}


def taken_over(origin: OriginFacts) -> set[str]:
    """Name the norms whose scale moved into all matrices that read them."""
    return {
        name for name, one in origin.same.norms.items() if all(holds_inverse(reader) for reader in one.readers.values())
    }


def holds_inverse(one: Reader) -> bool:
    """Say whether a matrix holds the inverse of what its norm's channels were multiplied by."""
    return abs(one.share - 1) <= CLOSE + ERRORS * one.error


def is_mixed(one: NeuronOrder) -> bool:
    """Say whether the matrices of a layer have their neurons in different orders."""
    return bool(one.alone)


def _is_telling(name: str, one: TensorChange, base: BaseFacts) -> bool:
    return not one.is_origin_zero and name in base.tensors and _is_large(base.tensors[name].shape)


def _is_large(shape: tuple[int, ...]) -> bool:
    return len(shape) >= 2 and math.prod(shape) >= MIN_VALUES
