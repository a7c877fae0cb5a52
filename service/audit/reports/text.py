"""The report for people: wrapped to the terminal's width, coloured only on a terminal.

Knows no file; `render` writes into a string, `show` onto a terminal.
"""

import io
import sys
from difflib import get_close_matches

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from service.audit.catalogue import CHECKS
from service.domain.judgement import Finding, Report, SubjectReport, Verdict, Waiver

MARKS = {"fatal": "✗", "warning": "!", "note": "·", "skipped": "?"}
STYLES = {"fatal": "bold red", "warning": "yellow", "note": "dim", "skipped": "magenta"}
FILE_WIDTH = 100


def report_text(report: Report, width: int = FILE_WIDTH) -> str:
    """Return the report without colour, wrapped to a width in columns."""
    stream = io.StringIO()
    _print(Console(file=stream, width=width, no_color=True, highlight=False, emoji=False, legacy_windows=False), report)
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip("\n").splitlines())


def show_report(report: Report) -> None:
    """Print the report; rich finds out whether there is a terminal, how wide it is, and whether it wants colour."""
    if sys.stdout.isatty():
        _print(Console(highlight=False, emoji=False), report)
    else:
        print(report_text(report))


def _print(console: Console, report: Report) -> None:
    for subject, one in report.subjects.items():
        verdict = report.verdict(subject)
        head = Text(f"{_printable(subject)}: ", "bold")
        head.append(verdict.value.upper(), "green" if verdict is Verdict.CONSISTENT else "bold red")
        head.append(f"  ({_counts(one)}; fingerprint {one.fingerprint})")
        console.print(head, soft_wrap=True)
        for finding in one.findings:
            _print_finding(console, finding)
        console.print()
    for waiver in report.unmatched:
        named = _printable(f"waiver {waiver.check}:{waiver.subject} fits no finding: {waiver.reason}")
        console.print(Text(named + _mistaken(waiver, report), "yellow"))
    stage = "files and loaded model" if report.is_complete else "files only; the loaded model was not measured"
    is_good = report.overall is Verdict.CONSISTENT
    last = Text("consistent" if is_good else "NOT consistent", "green" if is_good else "bold red")
    last.append(f" under the {report.policy.value} policy ({stage})")
    console.print(last, soft_wrap=True)


def _print_finding(console: Console, finding: Finding) -> None:
    name = finding.severity.value
    degree = f" ({finding.degree.value})" if finding.degree else ""
    head = Text(f"{MARKS[name]} {name} {finding.check}{degree}: ", STYLES[name])
    head.append(_printable(finding.message), "not bold not dim default")
    console.print(Padding(head, (0, 0, 0, 2)))
    for label, text in (("effect", finding.consequence), ("repair", finding.repair), *_waiver(finding)):
        if text:
            line = Text(f"{label}: ", "bold")
            line.append(_printable(text), "not bold")
            console.print(Padding(line, (0, 0, 0, 6)))


def _waiver(finding: Finding) -> list[tuple[str, str]]:
    if finding.waiver:
        until = f" (until {finding.waiver.expires})" if finding.waiver.expires else ""
        return [("waived", finding.waiver.reason + until)]
    if finding.expired_waiver:
        return [("waiver expired", f"{finding.expired_waiver.reason} (on {finding.expired_waiver.expires})")]
    return []


def _mistaken(waiver: Waiver, report: Report) -> str:
    """Say that a waiver names what there is not, which is most often a slip of the pen."""
    checks = {check.check_id for check in CHECKS}
    if waiver.check not in checks:
        near = get_close_matches(waiver.check, checks, 1)
        return " (no check is called so" + (f"; did you mean {near[0]}?)" if near else ")")
    return "" if waiver.subject in report.subjects else f" (subjects are {', '.join(report.subjects)})"


def _counts(one: SubjectReport) -> str:
    severities = [finding.severity.value for finding in one.findings]
    counted = [f"{severities.count(name)} {name}" for name in MARKS if name in severities]
    return ", ".join([f"{len(one.checks)} check{'' if len(one.checks) == 1 else 's'}", *counted])


def _printable(text: str) -> str:
    """Spell out control characters: names come from files, and a terminal would obey them."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
