"""What the tensors beside the vocabulary matrices look like.

Knows no tensor's purpose and no threshold.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class VectorFacts:
    """A tensor of one dimension, such as a bias or the weight of a norm.

    Attributes:
        low: Its smallest value.
        high: Its largest.
        fifth: The 5th percentile of its values.
        up_to: Share of values that are at most -1, 0 and 1, by that border.
    """

    low: float
    high: float
    fifth: float
    up_to: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class SampleFacts:
    """Some rows of a tensor of two or more dimensions, which is read as rows of its first.

    Attributes:
        num_values: Of the sample.
        num_rows: Of the sample.
        deviation: Standard deviation.
        kurtosis: 3 of a normal distribution, 1.8 of a uniform one.
        row_spread: How much rows differ in length, in units of what rows of one draw do: about 1 if all are of one.
        column_spread: The same of columns.
        grid: What all values are codes of: `integers` up to 255, or a type of 8 bits, by safetensors' name; None if of
            neither.
        largest: Largest absolute value.
    """

    num_values: int
    num_rows: int
    deviation: float
    kurtosis: float
    row_spread: float
    column_spread: float
    grid: str | None
    largest: float


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """A kernel that looks at pixels.

    Attributes:
        smoothness: Correlation of neighbouring pixels, the lower of both directions.
        in_order: The same if the values are taken as written in another order of dimensions, by that order.
    """

    smoothness: float
    in_order: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """The projection in front of a linear attention's convolution, whose rows are its channels.

    Attributes:
        num_channels: Of both.
        likeness: Correlation of how long a channel's row is with how long its kernel is, within heads.
        in_order: The same if the rows are taken as written in another order, by that order.
    """

    num_channels: int
    likeness: float
    in_order: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class InnerFacts:
    """What the tensors beside the vocabulary matrices hold.

    Attributes:
        nonfinite: Names of those with NaN or infinity.
        all_zero: Names of those that are zero throughout.
        vectors: Of one dimension, by name; without those of the first list.
        samples: Of two or more, likewise, but for very small ones and those of the second list.
        kernels: Of those the ones that look at pixels.
        channels: Of those some projections of linear attention.
        repeated: Of those the ones that hold the values of another one, which stands at the same place of an earlier
            layer, with that one's name.
    """

    nonfinite: tuple[str, ...] = ()
    all_zero: tuple[str, ...] = ()
    vectors: Mapping[str, VectorFacts] = field(default_factory=dict, repr=False)
    samples: Mapping[str, SampleFacts] = field(default_factory=dict, repr=False)
    kernels: Mapping[str, KernelFacts] = field(default_factory=dict)
    channels: Mapping[str, ChannelFacts] = field(default_factory=dict)
    repeated: Mapping[str, str] = field(default_factory=dict)
