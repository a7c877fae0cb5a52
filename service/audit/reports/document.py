"""The report as JSON, with a schema: what `GET /health/tokenizer` and `audit --format json` show.

Knows the shape only.
"""

import math
from typing import Any, Literal

from pydantic import BaseModel, Field

from service.domain.judgement import Degree, Finding, Policy, Report, Severity, UsedToken, Verdict

SCHEMA_VERSION = 1


class WaiverDocument(BaseModel):
    """The operator's acceptance of a finding."""

    reason: str
    expires: str | None = Field(description="Last day on which it holds, ISO 8601; null for no end.")
    is_expired: bool


class FindingDocument(BaseModel):
    """One result of one check about one subject."""

    check: str
    severity: Severity
    subject: str = Field(description="`base` or `adapter:NAME`.")
    message: str
    evidence: dict[str, Any]
    consequence: str = Field(description="What it does to answers.")
    repair: str = Field(description="What to run or change.")
    degree: Degree | None = Field(description="For under-trained tokens: how much they matter.")
    waived: WaiverDocument | None


class TokenDocument(BaseModel):
    """A token by id and string."""

    id: int
    token: str


class UsedTokenDocument(TokenDocument):
    """A token in use, with the state of its rows."""

    sources: list[str]
    roles: list[str]
    has_input_row: bool
    has_output_row: bool
    input_state: str
    output_state: str
    trained_by: str
    degree: Degree | None
    exposure: float | None = Field(description="Share of the corpus's conversations that hold it.")


class SubjectDocument(BaseModel):
    """Everything about the base or one adapter."""

    verdict: Verdict
    fingerprint: str
    checks: list[str] = Field(description="Checks that ran.")
    findings: list[FindingDocument]
    undertrained_tokens: list[TokenDocument]
    used_tokens: list[UsedTokenDocument]
    load_warnings: list[str]
    facts: dict[str, Any]


class ReportDocument(BaseModel):
    """An audit."""

    schema_version: Literal[1]
    verdict: Verdict
    policy: Policy
    is_complete: bool = Field(description="The loaded model was measured too, not only the files.")
    fingerprint: str = Field(description="One over those of all subjects.")
    findings: list[FindingDocument] = Field(description="Of all subjects, worst first.")
    unmatched_waivers: list[str] = Field(description="Waivers that no finding needed, as `check:subject`.")
    subjects: dict[str, SubjectDocument]


def report_json(report: Report) -> dict[str, Any]:
    """Return the report as plain JSON values."""
    findings = sorted(report.findings(), key=lambda one: list(Severity).index(one.severity))
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": report.overall.value,
        "policy": report.policy.value,
        "is_complete": report.is_complete,
        "fingerprint": report.fingerprint,
        "findings": [finding_json(one) for one in findings],
        "unmatched_waivers": [f"{one.check}:{one.subject}" for one in report.unmatched],
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
        "undertrained_tokens": [{"id": token_id, "token": _text(text)} for token_id, text in one.undertrained.items()],
        "used_tokens": [_used_token(token) for token in one.used_tokens],
        "load_warnings": [_text(warning) for warning in one.load_warnings],
        "facts": plain(one.facts),
    }


def finding_json(finding: Finding) -> dict[str, Any]:
    """Return one finding."""
    waiver = finding.waiver or finding.expired_waiver
    waived = waiver and {
        "reason": waiver.reason,
        "expires": waiver.expires.isoformat() if waiver.expires else None,
        "is_expired": finding.waiver is None,
    }
    return {
        "check": finding.check,
        "severity": finding.severity.value,
        "subject": finding.subject,
        "message": _text(finding.message),
        "evidence": plain(finding.evidence),
        "consequence": finding.consequence,
        "repair": _text(finding.repair),
        "degree": finding.degree.value if finding.degree else None,
        "waived": waived,
    }


def schema() -> dict[str, Any]:
    """Return the JSON schema of a report."""
    return ReportDocument.model_json_schema()


def plain(value: Any) -> Any:
    """Turn a value into what every JSON parser takes: no NaN, no half characters, keys that are strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        return _text(value)
    if hasattr(value, "items"):
        return {_text(str(key)): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    return value if isinstance(value, int | float | bool | type(None)) else _text(str(value))


def _used_token(token: UsedToken) -> dict[str, Any]:
    return {
        "id": token.token_id,
        "token": _text(token.text),
        "sources": list(token.sources),
        "roles": list(token.roles),
        "has_input_row": token.has_input_row,
        "has_output_row": token.has_output_row,
        "input_state": token.input_state,
        "output_state": token.output_state,
        "trained_by": token.trained_by,
        "degree": token.degree.value if token.degree else None,
        "exposure": token.exposure,
    }


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
