"""Draws vocabulary matrices and what adapters do to their rows, as SVG.

Knows no threshold: what is marked, others decided.
"""

import io
from collections.abc import Sequence
from typing import Any

from service.domain.facts import MatrixFacts, RowUpdate
from service.domain.judgement import UsedToken

GOOD, BAD = "#2a78c2", "#c62828"
MAX_LABELS = 12


def matrix_plot(matrix: MatrixFacts, used: Sequence[UsedToken], which: str) -> str | None:
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
    labelled = 0
    for token in used:
        row = matrix.rows.get(token.token_id)
        state = token.input_state if which == "input" else token.output_state
        if row is None or row.distance is None or row.norm <= 0:
            continue
        is_bad = state in ("untrained", "suspicious")
        axes.plot(_log10(row.norm), row.distance, "x" if is_bad else "o", color=BAD if is_bad else GOOD, ms=5)
        if is_bad and labelled < MAX_LABELS:
            labelled += 1
            axes.annotate(str(token.token_id), (_log10(row.norm), row.distance), fontsize=7, color=BAD)
    axes.set_xlabel("length of the row, log10")
    axes.set_ylabel(f"1 - cosine with the mean of {'unused' if histogram.reference == 'unused' else 'all'} rows")
    axes.set_title(f"{which} rows of {matrix.num_rows} ids")
    return _svg(figure)


def update_plot(update: RowUpdate, which: str) -> str | None:
    """Draw where an adapter changes rows, by id; None if it changes none."""
    if not update.changed:
        return None
    figure, axes = _figure()
    for span in update.changed:
        axes.bar(span.start, span.num_changed, width=max(span.end - span.start, 1), align="edge", color=GOOD)
    axes.set_xlabel("token id")
    axes.set_ylabel("changed rows")
    axes.set_title(f"{which} rows that the adapter changes ({update.kind}, {update.num_changed} in all)")
    return _svg(figure)


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


def _log10(value: float) -> float:
    import math

    return math.log10(value)
