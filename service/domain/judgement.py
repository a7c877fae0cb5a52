"""What an audit says: findings, waivers, verdicts, the report.

Does not know how facts are read or what a check compares.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any

BASE = "base"
"""The subject of every finding that is not about one adapter."""


MERGED = "merged"
"""The name under which an adapter that is merged at load is judged."""

UNKNOWN = "unknown"
"""The name under which requests count that name no configured adapter, or were refused before they were read."""


def adapter_subject(adapter_id: str) -> str:
    """Name the subject of findings about one adapter."""
    return f"adapter:{adapter_id}"


class Severity(StrEnum):
    """How bad a finding is. `skipped` means the check could not run, which is not the same as passed."""

    FATAL = "fatal"
    WARNING = "warning"
    NOTE = "note"
    SKIPPED = "skipped"


class Degree(StrEnum):
    """How much an under-trained token matters: what follows from its role and from how often it occurs."""

    HARMLESS = "harmless"
    """The token is hardly used."""
    MODERATE = "moderate"
    """It is used, and badly represented."""
    SEVERE = "severe"
    """Answers depend on it."""


class Verdict(StrEnum):
    """What follows for one subject."""

    CONSISTENT = "consistent"
    INCONSISTENT = "inconsistent"


class Policy(StrEnum):
    """Which severities refuse: strict also warnings, permissive none."""

    STRICT = "strict"
    DEFAULT = "default"
    PERMISSIVE = "permissive"


@dataclass(frozen=True, slots=True)
class Waiver:
    """A finding that the operator accepts; shown in every report.

    Attributes:
        check: Id of the check.
        subject: `base` or `adapter:<id>`.
        reason: Why it is acceptable.
        expires: Last day on which it holds; None for no end.
    """

    check: str
    subject: str
    reason: str
    expires: date | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of one check about one subject.

    Attributes:
        check: Id of the check, such as `rows_cover_ids`.
        severity: How bad it is.
        subject: `base` or `adapter:<id>`.
        message: What is wrong, naming the token, tensor or file.
        evidence: Numbers, ids and strings that show it; plain JSON values.
        consequence: What it does to answers, in one sentence.
        repair: What to run or change.
        degree: How much it matters, where the finding is about under-trained tokens.
        waiver: The operator's acceptance, if there is one that has not expired.
        expired_waiver: The acceptance that no longer holds, if there is one.
    """

    check: str
    severity: Severity
    subject: str
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    consequence: str = ""
    repair: str = ""
    degree: Degree | None = None
    waiver: Waiver | None = None
    expired_waiver: Waiver | None = None


@dataclass(frozen=True, slots=True)
class UsedToken:
    """One id that templates, stop set, processor or adapter can produce or consume.

    Attributes:
        token_id: The id.
        text: The token string.
        sources: Who uses it: `template`, `stop`, `processor`, `adapter`, `vocabulary`.
        roles: What becomes of it: `read` by the model, `written` by it, `replaced` by picture features.
        has_input_row: The input matrix has a row of that id.
        has_output_row: The output matrix has one.
        input_state: `trained`, `untrained`, `suspicious` (looks untrained), `unknown`, or `exempt` (never looked up).
        output_state: The same for the output row.
        trained_by: `base`, `adapter`, `tuning`, `nobody` or `unknown`.
        degree: How much it matters if a state is bad; None if none is.
        exposure: Share of the corpus's conversations that hold it, 0 to 1; None without a corpus.
    """

    token_id: int
    text: str
    sources: tuple[str, ...]
    roles: tuple[str, ...]
    has_input_row: bool
    has_output_row: bool
    input_state: str
    output_state: str
    trained_by: str
    degree: Degree | None = None
    exposure: float | None = None


@dataclass(frozen=True, slots=True)
class SubjectReport:
    """Everything the audit says about the base or one adapter.

    Attributes:
        subject: `base` or `adapter:<id>`.
        verdict: What follows.
        findings: All results, waived ones included, worst first.
        checks: Ids of the checks that ran.
        fingerprint: Content hash of what was judged.
        undertrained: Token string by id, for tokens in use whose rows nobody trained.
        load_warnings: What transformers and PEFT said while loading.
        used_tokens: Every token in use, with the state of its rows.
        facts: What was measured, in short; plain JSON values.
    """

    subject: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    checks: tuple[str, ...]
    fingerprint: str
    undertrained: Mapping[int, str] = field(default_factory=dict)
    load_warnings: tuple[str, ...] = ()
    used_tokens: tuple[UsedToken, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Report:
    """The audit of the base and of every adapter."""

    policy: Policy
    subjects: Mapping[str, SubjectReport]
    is_complete: bool
    """False while only the files, and not yet the loaded model, have been judged."""
    unmatched: tuple[Waiver, ...] = ()
    """Waivers that no finding needed: a typing error, or a repaired checkpoint."""

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the fingerprints of all subjects."""
        parts = [f"{name}={one.fingerprint}" for name, one in sorted(self.subjects.items())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def verdict(self, subject: str) -> Verdict:
        """Return what follows for one subject; an adapter of a refused base is refused with it."""
        if self.subjects[BASE].verdict is Verdict.INCONSISTENT:
            return Verdict.INCONSISTENT
        return self.subjects[subject].verdict

    @property
    def overall(self) -> Verdict:
        """Consistent only if every subject is."""
        if all(one.verdict is Verdict.CONSISTENT for one in self.subjects.values()):
            return Verdict.CONSISTENT
        return Verdict.INCONSISTENT

    def findings(self) -> Sequence[Finding]:
        """All findings of all subjects."""
        return [finding for one in self.subjects.values() for finding in one.findings]
