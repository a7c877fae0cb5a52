"""The report as one HTML file: verdicts, findings, every check's result, tokens in use, plots.

Needs no network and runs no script. Knows no check.
"""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, select_autoescape
from markupsafe import Markup

from service.audit.catalogue import CHECKS
from service.audit.reports.document import report_json
from service.audit.reports.plots import Plot, looks_untrained, matrix_plot, update_plot
from service.audit.usage import ADAPTER
from service.domain.facts import AdapterFacts, CheckpointFacts, MatrixFacts
from service.domain.judgement import BASE, Report, SubjectReport, UsedToken, adapter_subject


def report_html(report: Report, facts: CheckpointFacts) -> str:
    """Return the page.

    Args:
        report: What was judged.
        facts: What it was judged by, for the plots.
    """
    source = (files("service.audit.reports") / "page.html").read_text(encoding="utf-8")
    template = Environment(autoescape=select_autoescape(default=True, default_for_string=True)).from_string(source)
    return template.render(
        report=report_json(report),
        rows=[_check_row(check.check_id, check.title, report) for check in CHECKS],
        plots={subject: _plots(subject, one, facts) for subject, one in report.subjects.items()},
    )


def _check_row(check_id: str, title: str, report: Report) -> dict[str, Any]:
    return {"id": check_id, "title": title, "results": [_result(check_id, one) for one in report.subjects.values()]}


def _result(check_id: str, one: SubjectReport) -> str:
    if check_id not in one.checks:
        return "not applicable"
    found = [finding.severity.value for finding in one.findings if finding.check == check_id]
    return found[0] if found else "passed"


def _plots(subject: str, one: SubjectReport, facts: CheckpointFacts) -> list[dict[str, Any]]:
    matrices = (("input", facts.base.embedding), ("output", facts.base.head))
    if subject == BASE:
        drawn = [matrix_plot(matrix, one.used_tokens, which) for which, matrix in matrices if matrix]
    else:
        adapter = next((it for name, it in facts.adapters.items() if adapter_subject(name) == subject), None)
        drawn = _adapter_plots(adapter, one.used_tokens, matrices) if adapter else []
    # The markup is matplotlib's own drawing of numbers and ids.
    return [{"svg": Markup(plot.svg), "caption": plot.caption} for plot in drawn if plot]  # noqa: S704


def _adapter_plots(
    adapter: AdapterFacts, used: Sequence[UsedToken], matrices: Sequence[tuple[str, MatrixFacts | None]]
) -> list[Plot | None]:
    """Draw the tokens that the adapter brings and nobody trained among the base's rows, and where it changes rows."""
    updates = {"input": adapter.embedding_update, "output": adapter.head_update}
    brought = [one for one in used if ADAPTER in one.sources]
    drawn: list[Plot | None] = []
    for which, matrix in matrices:
        update = updates[which]
        bad = [one for one in brought if looks_untrained(one, which)]
        if matrix and bad:
            drawn.append(matrix_plot(matrix, bad, which))
        if matrix and update:
            drawn.append(update_plot(update, which, update.num_rows or matrix.num_rows))
    return drawn
