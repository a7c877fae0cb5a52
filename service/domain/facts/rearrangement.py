"""A tensor whose values stand elsewhere than they should."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rearrangement:
    """A tensor that holds another one's values in another order, or with other signs.

    Attributes:
        kind: `signs`, `colours` (of the kernel that cuts pictures into patches) or `positions`.
        turn: 1 minus the cosine of both as they are; of positions the mean of rows.
        left: The same in the order, or but for the signs, that fits.
        share: Of values or rows that are concerned.
        shown: What happened, in words.
    """

    kind: str
    turn: float
    left: float
    share: float
    shown: str
