"""How a tuned folder differs from the one that it was made from.

Knows no limit of what is allowed to differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.domain.facts.folders import AdapterFacts, BaseFacts


@dataclass(frozen=True, slots=True)
class TensorChange:
    """One tensor that both folders have, with values that differ.

    Attributes:
        relative: Length of the difference over the length of the original, both in float32.
        turn: 1 minus the cosine of both, flattened.
    """

    relative: float
    turn: float


@dataclass(frozen=True, slots=True)
class OriginFacts:
    """The folder that a model was tuned from (`--base`), and what tuning changed in the weights.

    Attributes:
        base: The origin's own facts.
        num_equal: Tensors that are the same in both, after casting to the narrower type.
        changed: Tensors that differ, by name.
        missing: Tensors of the origin that the model lacks.
        extra: Tensors that the origin lacks.
        reshaped: Shapes of tensors that both have, origin's first, where they differ; vocabulary matrices included.
        embedding_turns: How far each input row that matters turned away from the origin's, by id: 1 minus the cosine.
            Rows that the origin does not have are left out.
        head_turns: The same for output rows.
    """

    base: "BaseFacts"
    num_equal: int
    changed: Mapping[str, TensorChange] = field(repr=False)
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    reshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    embedding_turns: Mapping[int, float]
    head_turns: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class TensorMerge:
    """One tensor that an adapter changes, in the folder that claims to hold the merged result.

    Attributes:
        expected: Length of the adapter's update over the length of the origin's tensor.
        measured: Length of what the folder's tensor differs from the origin's by, over the same.
        residual: Length of (folder's tensor minus origin's plus update) over the length of the update; 0 is exact,
            1 is an update that is missing.
        rounding: The residual that rounding to the folder's type alone makes.
        ratio: By what the update was multiplied: 1 is right, 0 is none, 2 is twice.
    """

    expected: float
    measured: float
    residual: float
    rounding: float
    ratio: float


@dataclass(frozen=True, slots=True)
class MergeFacts:
    """A folder compared with its origin plus one adapter (`--merged-from`).

    Attributes:
        adapter: The adapter's own facts.
        targets: Every tensor that the adapter changes, by the name that it has in the folder.
        unmatched: Modules of the adapter that the origin has no tensor for.
        uncomputed: Modules whose update is of a kind that is not computed here, with the reason.
        foreign: Tensors that differ from the origin's though the adapter does not touch them, by relative change.
    """

    adapter: "AdapterFacts"
    targets: Mapping[str, TensorMerge] = field(repr=False)
    unmatched: tuple[str, ...]
    uncomputed: Mapping[str, str]
    foreign: Mapping[str, float]
