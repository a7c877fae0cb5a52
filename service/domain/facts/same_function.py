"""What of a change cancels out: scales, factors and orders that one tensor takes and the next one gives back.

Knows no limit of what is allowed to differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain.facts.tensor_change import TensorChange


@dataclass(frozen=True, slots=True)
class Reader:
    """A matrix behind a norm whose channels were scaled.

    Attributes:
        share: How much of the inverse scale its columns hold: 1 all of it, 0 nothing.
        error: Of that share, as a standard deviation: training moves columns too, and those of few rows far.
        kept: Length of the difference to the origin's as both are, over the length of the origin's.
        undone: What is left of its change when norm and matrix are taken as one.
    """

    share: float
    error: float
    kept: float
    undone: TensorChange


@dataclass(frozen=True, slots=True)
class NormShift:
    """A norm whose channels were scaled.

    Attributes:
        strength: How far, as the root mean square of the logarithm of what its channels were multiplied by.
        low: The smallest of these factors.
        high: The largest.
        readers: The matrices that read it, by name.
    """

    strength: float
    low: float
    high: float
    readers: Mapping[str, Reader]


@dataclass(frozen=True, slots=True)
class NeuronOrder:
    """A feed-forward layer of which a matrix has the origin's neurons in another order.

    Attributes:
        share: Of the neurons, those that stand elsewhere.
        turns: By matrix, 1 minus the cosine in the origin's order.
        together: The same in the one order that fits all of them best.
        alone: The same in the order that fits this matrix best; empty if the one order fits all.
    """

    share: float
    turns: Mapping[str, float]
    together: Mapping[str, float]
    alone: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SameFunction:
    """Changes of several tensors that belong together.

    Attributes:
        norms: Norms whose channels were scaled, by name.
        neurons: Feed-forward layers in another order.
        undone: What is left of a tensor's change without an order or factors that the next tensor gives back, by name.
        factors: Pairs of tensors of which one was multiplied and the other divided: smallest and largest factor.
    """

    norms: Mapping[str, NormShift] = field(default_factory=dict)
    neurons: tuple[NeuronOrder, ...] = ()
    undone: Mapping[str, TensorChange] = field(default_factory=dict)
    factors: Mapping[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
