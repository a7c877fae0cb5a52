"""Draws vocabulary matrices and what adapters do to their rows, as SVG.

Knows no threshold: what is marked, others decided.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.domain.facts import MatrixFacts, RowFacts, RowUpdate
from service.domain.judgement import UsedToken

GOOD, BAD = "#2a78c2", "#c62828"
BAD_STATES = ("untrained", "suspicious")
CLOSE = 0.04
"""Share of an axis within which two labels would cover each other."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing, and what is to be read below it.

    Attributes:
        svg: The drawing.
        caption: Plain text. Names of tokens stand here, as a browser has the fonts for them.
    """

    svg: str
    caption: str


def matrix_plot(matrix: MatrixFacts, used: Sequence[UsedToken], which: str) -> Plot | None:
    """Draw all rows by length and by distance from the rows that nobody uses; tokens in use are marked.

    Args:
        matrix: The matrix; None is returned if it has no histogram.
        used: Tokens to mark; ids label those whose rows look untrained.
        which: `input` or `output`.
    """
    histogram = matrix.histogram
    if histogram is None or not any(any(one) for one in histogram.counts):
        return None
    figure, axes = _figure()
    from matplotlib.colors import LogNorm

    counts = [list(column) for column in zip(*histogram.counts, strict=True)]
    mesh = axes.pcolormesh(
        histogram.norm_edges, histogram.distance_edges, counts, norm=LogNorm(vmin=1), cmap="Greys", rasterized=True
    )
    figure.colorbar(mesh, ax=axes, label="rows")
    rows = matrix.rows
    drawn = [
        (one, row) for one in used if (row := rows.get(one.token_id)) and row.distance is not None and row.norm > 0
    ]
    bad = [(one, row) for one, row in drawn if looks_untrained(one, which)]
    good = [(one, row) for one, row in drawn if not looks_untrained(one, which)]
    for marked, shape, colour, label in ((good, "o", GOOD, "in use"), (bad, "x", BAD, "in use, looks untrained")):
        if marked:
            places = [math.log10(row.norm) for _, row in marked], [row.distance for _, row in marked]
            axes.plot(*places, shape, color=colour, ms=5, label=label)
    axes.use_sticky_edges = False  # marks on an edge would be cut in half
    axes.margins(0.05)
    axes.autoscale_view()
    _label(axes, bad)
    if drawn:
        axes.legend(fontsize=7, loc="best")
    axes.set_xlabel("length of the row, log10")
    axes.set_ylabel(f"1 - cosine with the mean\nof {'unused' if histogram.reference == 'unused' else 'all'} rows")
    axes.set_title(f"{which} rows of {matrix.num_rows} ids")
    names = ", ".join(f"{one.token_id} {one.text}" for one, _ in bad)
    return Plot(_svg(figure), f"Looks untrained: {names}." if names else "No token in use looks untrained here.")


def update_plot(update: RowUpdate, which: str, num_rows: int) -> Plot | None:
    """Draw where an adapter changes rows, by id; None if it changes none.

    Args:
        update: What it does.
        which: `input` or `output`.
        num_rows: Rows of the matrix, so that the place among all ids can be seen.
    """
    if not update.changed:
        return None
    figure, axes = _figure()
    from matplotlib.ticker import MaxNLocator

    narrowest = max(num_rows, update.changed[-1].end) / 200  # thinner bars would not be seen
    for span in update.changed:
        width = max(span.end - span.start, narrowest)
        axes.bar(span.start, span.num_changed, width=width, align="edge", color=GOOD)
    axes.set_xlim(0, max(num_rows, update.changed[-1].end))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("token id")
    axes.set_ylabel("changed rows")
    axes.set_title(f"{which} rows that the adapter changes ({update.kind})")
    spans = ", ".join(f"{span.num_changed} of ids {span.start} to {span.end - 1}" for span in update.changed[:3])
    more = ", ..." if len(update.changed) > 3 else ""
    return Plot(_svg(figure), f"{update.num_changed} of {num_rows} rows: {spans}{more}.")


def looks_untrained(token: UsedToken, which: str) -> bool:
    """Say whether a token is to be marked as bad among the `input` or the `output` rows."""
    return (token.input_state if which == "input" else token.output_state) in BAD_STATES


def _label(axes: Any, marked: Sequence[tuple[UsedToken, RowFacts]]) -> None:
    """Write ids beside marks, where there is room for them."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    taken: list[tuple[float, float]] = []
    for token, row in marked:
        x, y = math.log10(row.norm), row.distance or 0.0
        here = (x - left) / (right - left), (y - low) / (high - low)
        if any(abs(here[0] - one[0]) < 2 * CLOSE and abs(here[1] - one[1]) < CLOSE for one in taken):
            continue
        taken.append(here)
        side = -1 if here[0] > 1 - 2 * CLOSE else 1
        axes.annotate(
            str(token.token_id),
            (x, y),
            xytext=(4 * side, 4),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            fontsize=7,
            color=BAD,
        )


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Any) -> str:
    """Return the drawing alone, without the XML prolog, so that it can stand in a page; the same at every run."""
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "minicpm-service", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
