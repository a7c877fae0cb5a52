"""How much of what LoRA factors add a weight already holds, and how DoRA's magnitudes compare with it.

Knows no limit.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FactorLikeness:
    """The product of a module's factors beside the base's weight, both within the space that the factors span.

    Attributes:
        rank: Of that space.
        cosine: 1 where the weight has nothing there but the product, as factors that were cut out of it show; near 0
            where they began at random and at zero.
        share: By how much of the product, as the config scales it, the weight is longer: 1 where it was merged into it,
            near 0 where it was not.
        noise: By how much the share of a product that has nothing to do with the weight may be off.
    """

    rank: int
    cosine: float
    share: float
    noise: float


@dataclass(frozen=True, slots=True)
class MagnitudeFacts:
    """DoRA's magnitudes of a module beside the lengths of its weight's rows, which they begin as.

    Attributes:
        factor: By what one is larger than the other, for the row in the middle; 1 where they are the same.
        likeness: Correlation of their logarithms.
    """

    factor: float
    likeness: float
