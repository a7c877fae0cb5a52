"""Writes a report as JSON values or as text for people.

Judges nothing and reads nothing.
"""

import textwrap
from typing import Any

from service.domain.judgement import Finding, Report, SubjectReport, Verdict

MARKS = {"fatal": "✗", "warning": "!", "note": "·", "skipped": "?"}


def report_json(report: Report) -> dict[str, Any]:
    """Return the report as `GET /health/tokenizer` and `audit --format json` show it."""
    return {
        "verdict": report.overall.value,
        "policy": report.policy.value,
        "is_complete": report.is_complete,
        "subjects": {subject: subject_json(report, subject) for subject in report.subjects},
    }


def subject_json(report: Report, subject: str) -> dict[str, Any]:
    """Return one subject's part of the report."""
    one = report.subjects[subject]
    return {
        "verdict": report.verdict(subject).value,
        "fingerprint": one.fingerprint,
        "checks": list(one.checks),
        "findings": [finding_json(finding) for finding in one.findings],
        "undertrained_tokens": [{"id": token_id, "token": text} for token_id, text in one.undertrained.items()],
        "load_warnings": list(one.load_warnings),
    }


def finding_json(finding: Finding) -> dict[str, Any]:
    """Return one finding."""
    waiver = finding.waiver
    return {
        "check": finding.check,
        "severity": finding.severity.value,
        "subject": finding.subject,
        "message": finding.message,
        "evidence": dict(finding.evidence),
        "consequence": finding.consequence,
        "repair": finding.repair,
        "waived": waiver.reason if waiver else None,
    }


def report_text(report: Report, width: int = 100) -> str:
    """Return the report for people, wrapped to a width in columns."""
    lines = []
    for subject, one in report.subjects.items():
        verdict = report.verdict(subject)
        lines.append(f"{subject}: {verdict.value.upper()}  ({_counts(one)}; fingerprint {one.fingerprint})")
        for finding in one.findings:
            lines += _finding_lines(finding, width)
        lines.append("")
    stage = "files and loaded model" if report.is_complete else "files only; the loaded model was not measured"
    verdict_word = "consistent" if report.overall is Verdict.CONSISTENT else "NOT consistent"
    lines.append(f"{verdict_word} under the {report.policy.value} policy ({stage})")
    return "\n".join(lines)


def _counts(one: SubjectReport) -> str:
    severities = [finding.severity.value for finding in one.findings]
    counted = [f"{severities.count(name)} {name}" for name in MARKS if name in severities]
    return ", ".join([f"{len(one.checks)} checks", *counted])


def _finding_lines(finding: Finding, width: int) -> list[str]:
    head = f"{MARKS[finding.severity.value]} {finding.severity.value} {finding.check}: {finding.message}"
    parts = [("", head), ("effect: ", finding.consequence), ("repair: ", finding.repair)]
    if finding.waiver:
        parts.append(("waived: ", finding.waiver.reason))
    lines = []
    for label, text in parts:
        if text:
            text = _printable(text)
            indent = "  " if not label else "      "
            lines += textwrap.wrap(label + text, width, initial_indent=indent, subsequent_indent=indent + "  ")
    return lines


def _printable(text: str) -> str:
    """Spell out control characters: names come from files, and a terminal would obey them."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
