"""Runs the checks over facts, applies waivers and policy, and says what follows.

Knows no single check.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

from service.audit.catalogue import CHECKS
from service.audit.check import AdapterView, BaseView, Check
from service.audit.summary import summary
from service.audit.token_states import BAD, idle_tokens, used_tokens
from service.audit.usage import ADAPTER
from service.domain.facts import CheckpointFacts, LoadedFacts
from service.domain.judgement import (
    MERGED,
    Finding,
    Policy,
    Report,
    Severity,
    SubjectReport,
    UsedToken,
    Verdict,
    Waiver,
)

REFUSING = {
    Policy.STRICT: frozenset({Severity.FATAL, Severity.WARNING, Severity.SKIPPED}),
    Policy.DEFAULT: frozenset({Severity.FATAL}),
    Policy.PERMISSIVE: frozenset[Severity](),
}
ORDER = list(Severity)


def audit(
    facts: CheckpointFacts,
    loaded: LoadedFacts | None = None,
    policy: Policy = Policy.DEFAULT,
    waivers: Sequence[Waiver] = (),
    today: date | None = None,
) -> Report:
    """Judge a checkpoint.

    Args:
        facts: What the files say.
        loaded: What the model in memory says; None before it is loaded.
        policy: Which severities refuse.
        waivers: Findings that the operator accepts. They stay in the report and do not refuse until they expire.
        today: By which waivers expire; the day in UTC if left out.
    """
    day = today or datetime.now(UTC).date()
    merged = facts.adapters.get(MERGED)
    is_replaced = merged is not None and bool(merged.embedding_update or merged.head_update)
    views: list[BaseView | AdapterView] = [
        BaseView(facts.base, loaded.base if loaded else None, is_replaced, facts.origin, facts.merge)
    ]
    for adapter_id, adapter in facts.adapters.items():
        views.append(AdapterView(facts.base, adapter, loaded.adapters.get(adapter_id) if loaded else None))
    subjects = [_judge(view, policy, waivers, day) for view in views]
    used = {waiver for one in subjects for it in one.findings for waiver in (it.waiver, it.expired_waiver)}
    return Report(
        policy,
        {one.subject: one for one in subjects},
        is_complete=loaded is not None,
        unmatched=tuple(one for one in waivers if one not in used),
    )


def _judge(view: BaseView | AdapterView, policy: Policy, waivers: Sequence[Waiver], today: date) -> SubjectReport:
    checks, findings = _run([check for check in CHECKS if check.concerns(view)], view, waivers, today)
    is_refused = any(one.severity in REFUSING[policy] and one.waiver is None for one in findings)
    facts = view.base if isinstance(view, BaseView) else view.adapter
    used = used_tokens(view)
    return SubjectReport(
        subject=view.subject,
        verdict=Verdict.INCONSISTENT if is_refused else Verdict.CONSISTENT,
        findings=tuple(sorted(findings, key=lambda one: ORDER.index(one.severity))),
        checks=tuple(check.check_id for check in checks),
        fingerprint=facts.fingerprint,
        undertrained=_undertrained(view, used),
        load_warnings=tuple(f"{one.source}: {one.message}" for one in view.loaded.warnings) if view.loaded else (),
        used_tokens=used,
        facts=summary(view),
    )


def _run(
    checks: Sequence[Check], view: BaseView | AdapterView, waivers: Sequence[Waiver], today: date
) -> tuple[list[Check], list[Finding]]:
    """Run checks in order, up to one that decides; return those that ran, and what they found."""
    ran, findings = list[Check](), list[Finding]()
    for check in checks:
        if check.is_for_sound and _is_fatal(findings):
            continue
        found = [_waive(one, waivers, today) for one in check.run(view)]
        ran.append(check)
        findings += found
        if check.is_decisive and _is_fatal(found):
            break
    return ran, findings


def _is_fatal(findings: Sequence[Finding]) -> bool:
    return any(one.severity is Severity.FATAL and one.waiver is None for one in findings)


def _waive(finding: Finding, waivers: Sequence[Waiver], today: date) -> Finding:
    fitting = [one for one in waivers if (one.check, one.subject) == (finding.check, finding.subject)]
    valid = next((one for one in fitting if one.expires is None or one.expires >= today), None)
    return replace(finding, waiver=valid, expired_waiver=None if valid else next(iter(fitting), None))


def _undertrained(view: BaseView | AdapterView, used: Sequence[UsedToken]) -> dict[int, str]:
    """Choose the tokens whose live use is counted: those that a text may hold and whose rows nobody trained."""
    known = idle_tokens(view.base) if isinstance(view, BaseView) else {}
    bad = {one.token_id: one.text for one in used if one.input_state in BAD}
    mute = {one.token_id: one.text for one in used if one.output_state in BAD and ADAPTER in one.sources}
    return dict(sorted((known | bad | mute).items()))
