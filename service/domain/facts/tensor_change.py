"""How one tensor differs from the one that it was made from.

Knows no limit of what is allowed to differ.
"""

from dataclasses import dataclass

from service.domain.facts.rearrangement import Rearrangement


@dataclass(frozen=True, slots=True)
class TensorChange:
    """One tensor that both folders have, with values that differ.

    Attributes:
        relative: Length of the difference over the length of the original, both in float32. Of a vocabulary matrix that
            was resized, over the rows that both have.
        turn: 1 minus the cosine of both, flattened; 1 if exactly one of them is zero throughout.
        is_finite: There is no NaN and no infinity in it.
        is_origin_zero: The original is zero throughout, so that there is nothing to resemble.
        length: Of the tensor over that of the original.
        is_reset: All its values are one and the same, and those of the original are not.
        is_rounding: No value differs by more than what saving it once in bfloat16 or float16 does.
        strange_share: Of the original's square length, what lies in rows that have next to nothing in common with what
            stands in their place; 0 where the whole matrix resembles the original, or is no matrix.
        cut: Share of its values that are zero where the original's are not, if all others are the original's.
        rearranged: Its values are the original's in another order or with other signs; None if not.
    """

    relative: float
    turn: float
    is_finite: bool = True
    is_origin_zero: bool = False
    is_rounding: bool = False
    length: float = 1.0
    is_reset: bool = False
    strange_share: float = 0.0
    cut: float = 0.0
    rearranged: Rearrangement | None = None
