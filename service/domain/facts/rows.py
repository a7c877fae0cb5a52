"""The two vocabulary matrices and single rows of them.

Knows no token and no threshold.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from service.domain.facts.files import ValueFacts


@dataclass(frozen=True, slots=True)
class RowFacts:
    """One row of a vocabulary matrix.

    Attributes:
        norm: Euclidean length.
        norm_percentile: Share of all rows that are shorter, 0 to 100.
        cosine_to_mean: With the mean of all other rows; a row left at its resize initialisation has almost exactly 1.
        cosine_to_spare: With the mean of the spare rows; None if there are too few of them.
        is_finite: No NaN and no infinity.
        digest: Hash of the stored bytes: equal digests are equal rows.
    """

    norm: float
    norm_percentile: float
    cosine_to_mean: float
    cosine_to_spare: float | None
    is_finite: bool
    digest: str


@dataclass(frozen=True, slots=True)
class SpareFacts:
    """The rows behind the tokenizer's last id: no text reaches them, so they show what an untrained row looks like.

    Source: "Fishing for Magikarp" (Land and Bartolo, 2024), section on known-unused tokens.

    Attributes:
        min_norm: Of the shortest.
        max_norm: Of the longest.
        min_cosine: With their mean, of the row that is least like it. Near 1 in output matrices, where training pushes
            all rows of tokens that are never written into one direction.
    """

    num_rows: int
    min_norm: float
    max_norm: float
    min_cosine: float


@dataclass(frozen=True, slots=True)
class MatrixFacts:
    """The input embeddings or the output head.

    Attributes:
        tensor: Name in the file.
        num_rows: First dimension: ids from 0 to num_rows - 1 can be looked up.
        digest: Hash of the stored bytes.
        values: Whole-matrix facts.
        rows: The rows that matter, by id.
        spare: The rows that no text reaches; None if there are too few.
    """

    tensor: str
    num_rows: int
    hidden_size: int
    dtype: str
    digest: str
    values: ValueFacts
    rows: Mapping[int, RowFacts]
    spare: SpareFacts | None = None


@dataclass(frozen=True, slots=True)
class RowUpdate:
    """How an adapter replaces rows of one vocabulary matrix.

    Attributes:
        kind: `modules_to_save`, `trainable_tokens` or `lora`.
        num_rows: Rows of the replacing matrix, for `modules_to_save`.
        turns: How far each row that matters turns away from the base's, by id: 1 minus the cosine of old and new, so
            that rounding and weight decay, which only shrink a row, count as nothing. An id that is missing keeps its
            row. For `lora` only whether the factors touch the row, 1 or 0.
    """

    kind: str
    num_rows: int | None
    turns: Mapping[int, float]
