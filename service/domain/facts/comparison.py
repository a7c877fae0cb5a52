"""How a tuned folder differs from the one that it was made from.

Knows no limit of what is allowed to differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain.facts.folders import AdapterFacts, BaseFacts
from service.domain.facts.same_function import SameFunction
from service.domain.facts.tensor_change import TensorChange


@dataclass(frozen=True, slots=True)
class OriginFacts:
    """The folder that a model was tuned from (`--base`), and what tuning changed in the weights.

    Attributes:
        base: The origin's own facts.
        num_equal: Tensors that are the same in both, up to what casting to the narrower type changes.
        changed: Tensors that differ, by name.
        missing: Tensors of the origin that the model lacks.
        extra: Tensors that the origin lacks.
        reshaped: Shapes of tensors that both have, origin's first, where they differ; vocabulary matrices included.
        embedding_turns: How far each input row that matters turned away from the origin's, by id: 1 minus the cosine.
            Rows that the origin does not have are left out.
        head_turns: The same for output rows.
        strangest_blocks: Of each vocabulary matrix that changed, by its name: the turn of the stretch of ids whose rows
            turned most, without what all rows have in common.
        same: What of the changes cancels out between tensors.
        is_tuning_beside: The folder is the origin's own, or adapters are given with it: nothing needs to have changed.
    """

    base: BaseFacts
    num_equal: int
    changed: Mapping[str, TensorChange] = field(repr=False)
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    reshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    embedding_turns: Mapping[int, float]
    head_turns: Mapping[int, float]
    strangest_blocks: Mapping[str, float] = field(default_factory=dict)
    same: SameFunction = field(default_factory=SameFunction)
    is_tuning_beside: bool = False

    @property
    def is_untuned(self) -> bool:
        """No weight differs, so that nothing but the origin's own prompts can have trained them."""
        is_same = not (self.changed or self.reshaped or self.extra or self.missing)
        return is_same and self.num_equal > 0 and not self.is_tuning_beside


@dataclass(frozen=True, slots=True)
class TensorMerge:
    """One tensor that an adapter changes, in the folder that claims to hold the merged result.

    Attributes:
        expected: Length of the adapter's update over the length of the origin's tensor.
        measured: Length of what the folder's tensor differs from the origin's by, over the same.
        residual: Length of (folder's tensor minus origin's plus update) over the length of the update; 0 is exact,
            1 is an update that is missing.
        rounding: The residual that rounding to the folder's type alone makes.
        share: How much of the update is there: 1 all of it, 0 nothing, 2 twice. The projection of what changed on the
            update.
        is_finite: There is no NaN and no infinity in the folder's tensor.
        base_bits: Without the update it is the origin's tensor rounded to so many bits, 4 or 8; 0 if not.
        stored_bits: The same of the tensor with the update.
    """

    expected: float
    measured: float
    residual: float
    rounding: float
    share: float = 1.0
    is_finite: bool = True
    base_bits: int = 0
    stored_bits: int = 0


@dataclass(frozen=True, slots=True)
class MergeFacts:
    """A folder compared with its origin plus one adapter (`--merged-from`).

    Attributes:
        adapter: The adapter's own facts.
        targets: Every tensor that the adapter changes, by the name that it has in the folder.
        unmatched: Modules of the adapter that the origin has no tensor for.
        uncomputed: Modules whose update is of a kind that is not computed here, with the reason.
        foreign: Tensors that differ from the origin's though the adapter does not touch them, by relative change.
        missing: Tensors that the adapter changes, or brings, and that the folder lacks.
        reshaped: Shapes of tensors that the adapter changes where they differ, the adapter's result first.
        rounded: Tensors that the adapter does not touch and that are the origin's rounded to so many bits.
    """

    adapter: AdapterFacts
    targets: Mapping[str, TensorMerge] = field(repr=False)
    unmatched: tuple[str, ...]
    uncomputed: Mapping[str, str]
    foreign: Mapping[str, float]
    missing: tuple[str, ...] = ()
    reshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    rounded: Mapping[str, int] = field(default_factory=dict)
