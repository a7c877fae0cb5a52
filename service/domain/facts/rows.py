"""The two vocabulary matrices and single rows of them.

Knows no token and no threshold.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain.facts.files import ValueFacts

BEHIND = "behind"
"""Kind of unused ids: those behind the tokenizer's last one."""
BYTES = "bytes"
"""Those of bytes that no UTF-8 text holds."""


@dataclass(frozen=True, slots=True)
class RowFacts:
    """One row of a vocabulary matrix.

    Attributes:
        norm: Euclidean length.
        norm_percentile: Share of all rows that are shorter, 0 to 100.
        cosine_to_mean: With the mean of all other rows; a row left at its resize initialisation has almost exactly 1.
        is_finite: No NaN and no infinity.
        digest: Hash of the values in float32: equal digests are equal rows.
        cosine_to_unused: With the mean of the unused rows, by their kind.
        distance: 1 minus the cosine with the matrix's reference (see `RowHistogram.reference`); None if not finite.
        distance_percentile: Share of all rows that are nearer to the reference, 0 to 100.
        twins: Ids of other rows with the very same values, the first few; a row of zeros has none. For a single row
            that an adapter brings, ids of the base's.
    """

    norm: float
    norm_percentile: float
    cosine_to_mean: float
    is_finite: bool
    digest: str
    cosine_to_unused: Mapping[str, float] = field(default_factory=dict)
    distance: float | None = None
    distance_percentile: float | None = None
    twins: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SpareFacts:
    """Rows that no text reaches: they show what an untrained row of this matrix looks like.

    Source: "Fishing for Magikarp" (Land and Bartolo, 2024), section on known-unused tokens.

    Attributes:
        min_norm: Of the shortest.
        max_norm: Of the longest.
        min_cosine: With their mean, of the row that is least like it. Near 1 in output matrices, where training pushes
            all rows of tokens that are never written into one direction.
        median_cosine: The same of the row in the middle: `1 / sqrt(num_rows)` where rows have nothing in common.
        ids: The first few.
    """

    num_rows: int
    min_norm: float
    max_norm: float
    min_cosine: float
    median_cosine: float
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RowHistogram:
    """All rows of a matrix, counted by length and by distance from a reference; for plots.

    Attributes:
        reference: `unused`: the mean of the rows that no text reaches. `mean`: of all rows, if there are too few of
            those.
        norm_edges: Borders of the bins of log10 of a row's length, ascending; one more than bins.
        distance_edges: Borders of the bins of 1 minus the cosine with the reference, likewise.
        counts: Rows in each bin, `counts[norm_bin][distance_bin]`.
        num_zero: Rows of length zero; they are in no bin.
        num_nonfinite: Rows with NaN or infinity; they are in no bin.
    """

    reference: str
    norm_edges: tuple[float, ...]
    distance_edges: tuple[float, ...]
    counts: tuple[tuple[int, ...], ...] = field(repr=False)
    num_zero: int = 0
    num_nonfinite: int = 0


@dataclass(frozen=True, slots=True)
class NormFacts:
    """Lengths of the rows that the tokenizer has an id for and that are not zero.

    Attributes:
        low: The 1st percentile.
        median: The 50th.
        upper: The 90th.
        high: The 99th.
        longest: The longest row.
        longest_id: Its id.
    """

    low: float
    median: float
    upper: float
    high: float
    longest: float
    longest_id: int


@dataclass(frozen=True, slots=True)
class Shift:
    """Evidence that the rows of a matrix stand at other ids than they were trained at.

    Attributes:
        rows: By how many ids they would have to move to fit.
        fit: How well they fit there.
        fit_now: How well they fit where they are, in the same measure.
        rival: How well they fit at the next best place.
        measure: What is compared.
    """

    rows: int
    fit: float
    fit_now: float
    rival: float
    measure: str


@dataclass(frozen=True, slots=True)
class MatrixFacts:
    """The input embeddings or the output head.

    Attributes:
        tensor: Name in the file.
        num_rows: First dimension: ids from 0 to num_rows - 1 can be looked up.
        values: Whole-matrix facts.
        rows: The rows that matter, by id.
        unused: The rows that no text reaches, by the kind of their ids: `behind` the tokenizer's last one, `bytes`
            that no UTF-8 text holds, `reserved` by their names. Kinds with too few rows are left out.
        num_unused: Rows of all kinds together; with fewer than 5 there is no reference to compare with.
        norms: Of the rows that the tokenizer has; None if there are none.
        histogram: All rows, for plots.
        shift: None if the rows stand where they belong, as far as can be told.
        is_copy: An output head that has the same values as the input embeddings.
    """

    tensor: str
    num_rows: int
    hidden_size: int
    dtype: str
    values: ValueFacts
    rows: Mapping[int, RowFacts]
    unused: Mapping[str, SpareFacts] = field(default_factory=dict)
    num_unused: int = 0
    norms: NormFacts | None = None
    histogram: RowHistogram | None = field(default=None, repr=False)
    shift: Shift | None = None
    is_copy: bool = False

    @property
    def spare(self) -> SpareFacts | None:
        """The rows behind the tokenizer's last id; None if there are too few."""
        return self.unused.get(BEHIND)


@dataclass(frozen=True, slots=True)
class RowSpan:
    """What an adapter does to the rows of a span of ids; for plots.

    Attributes:
        start: First id.
        end: Behind the last id.
        num_changed: Rows that turned, by more than rounding does.
        max_turn: Of the row that turned furthest: 1 minus the cosine of old and new.
    """

    start: int
    end: int
    num_changed: int
    max_turn: float


@dataclass(frozen=True, slots=True)
class RowUpdate:
    """How an adapter replaces rows of one vocabulary matrix.

    Attributes:
        kind: `modules_to_save`, `trainable_tokens` or `lora`.
        num_rows: Rows of the replacing matrix, for `modules_to_save`.
        turns: How far each row that matters turns away from the base's, by id: 1 minus the cosine of old and new, so
            that rounding and weight decay, which only shrink a row, count as nothing. An id that is missing keeps its
            row. For `lora` only whether the factors touch the row, 1 or 0.
        rows: The rows that matter as the adapter leaves them, by id; an id that is missing keeps its row.
        changed: Where it changes rows: the whole matrix in at most 64 spans of ids, without the spans that it leaves
            alone.
        num_changed: Rows that turned, of all.
        started: Ids of trained tokens whose rows point where the mean of their pieces' rows in the base does: a start,
            which no training moved.
    """

    kind: str
    num_rows: int | None
    turns: Mapping[int, float]
    rows: Mapping[int, RowFacts] = field(default_factory=dict)
    changed: tuple[RowSpan, ...] = ()
    num_changed: int = 0
    started: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class NamelessRow:
    """A row behind the tokenizer's last id, beside rows further behind, which pad the matrix.

    Attributes:
        length: Of the input row, over that of the longest of those.
        turn: How far the output row is off their direction, over the farthest of those, and likewise off the direction
            of bytes that no text holds; the smaller of both.
    """

    token_id: int
    length: float
    turn: float


@dataclass(frozen=True, slots=True)
class PrunedFacts:
    """Ordinary tokens whose rows are zero, or equal to many others.

    Attributes:
        num_ordinary: Tokens of more than one byte that are not added, reserved or impossible.
        num_zero: Those of them whose rows are zero.
        num_equal: Those whose rows are equal to at least twenty others.
        num_reached: Of both, those that are whole characters and that some text really becomes.
        scripts: How many of these there are in a script, and tokens of it in all; most first. The empty one stands for
            tokens without letters.
        tokens: A few of them, with their ids.
    """

    tensor: str
    num_ordinary: int
    num_zero: int
    num_equal: int
    num_reached: int
    scripts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
