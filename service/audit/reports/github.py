"""The report as annotations that GitHub shows beside a change.

Source: GitHub's documentation of workflow commands.
"""

from service.audit.reports.waivers import waived_words
from service.domain.judgement import Finding, Report, Severity, Waiver

COMMANDS = {
    Severity.FATAL: "error",
    Severity.WARNING: "warning",
    Severity.SKIPPED: "warning",
    Severity.NOTE: "notice",
}


def report_github(report: Report) -> str:
    """Return one line a finding, a waived one as a notice; and one a waiver that no finding needed."""
    unneeded = [_unneeded(one) for one in report.unmatched]
    return "\n".join([*(_line(one) for one in report.findings()), *unneeded])


def _unneeded(waiver: Waiver) -> str:
    title = _property(f"waiver of {waiver.subject}: {waiver.check}")
    return f"::notice title={title}::{_data(f'the waiver fits no finding: {waiver.reason}')}"


def _line(finding: Finding) -> str:
    command = "notice" if finding.waiver else COMMANDS[finding.severity]
    file = finding.evidence.get("file")
    place = f"file={_property(str(file))}," if isinstance(file, str) else ""
    title = _property(f"{finding.subject}: {finding.check}")
    message = _data(f"{finding.message}{waived_words(finding)}\n{finding.consequence}\n{finding.repair}".strip())
    return f"::{command} {place}title={title}::{message}"


def _data(text: str) -> str:
    safe = "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in text)
    return safe.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
