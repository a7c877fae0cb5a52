"""Files and tensors as they lie on a disk, before anyone says what they are for.

Knows no model.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """One tensor as the file's header declares it."""

    shape: tuple[int, ...]
    dtype: str
    """safetensors' name, such as `BF16`."""
    file: str


@dataclass(frozen=True, slots=True)
class ValueFacts:
    """What the values of one tensor look like as a whole.

    Attributes:
        num_values: All of them.
        num_nonfinite: NaN and infinity.
        is_all_zero: Nothing but zero.
        largest: Largest absolute value among the finite ones.
        smallest: Smallest one; infinite if none is finite.
        zeros_at_ends: Zeros before the first other value, and behind the last; none are counted if all are zero.
    """

    num_values: int
    num_nonfinite: int
    is_all_zero: bool
    largest: float = 0.0
    smallest: float = 0.0
    zeros_at_ends: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class FileProblem:
    """A file that is missing, unreadable or unsafe, and what is wrong with it."""

    file: str
    problem: str
