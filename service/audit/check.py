"""What a check is, and the facts that it sees.

Knows no single check; those are in `service.audit.checks`, one small function each.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from service.audit.layouts import foreign_layout
from service.domain.facts import AdapterFacts, BaseFacts, LoadedAdapterFacts, LoadedBaseFacts, MergeFacts, OriginFacts
from service.domain.judgement import BASE, Degree, Finding, Severity, adapter_subject


@dataclass(frozen=True, slots=True)
class BaseView:
    """What a check about the base sees.

    Attributes:
        loaded: None until the model is in memory.
        is_vocabulary_replaced: A merged adapter brought changes of a vocabulary matrix, so that the matrices in memory
            are not those of the base's files. PEFT unties them then.
        origin: The folder that the base was tuned from, if the operator names it.
        merge: The adapter that is said to be merged into the base, if the operator names it.
    """

    base: BaseFacts
    loaded: LoadedBaseFacts | None
    is_vocabulary_replaced: bool = False
    origin: OriginFacts | None = None
    merge: MergeFacts | None = None

    @property
    def subject(self) -> str:
        """Whom findings are about."""
        return BASE


@dataclass(frozen=True, slots=True)
class AdapterView:
    """What a check about one adapter sees."""

    base: BaseFacts
    adapter: AdapterFacts
    loaded: LoadedAdapterFacts | None

    @property
    def subject(self) -> str:
        """Whom findings are about."""
        return adapter_subject(self.adapter.adapter_id)

    @property
    def is_foreign(self) -> bool:
        """Say whether the files belong to another family of models, so that comparing them with the base says nothing.

        Once it was loaded all the same, under a policy that lets it, everything is looked at.
        """
        return self.loaded is None and foreign_layout(self.adapter, self.base) is not None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check found, before its id and its subject are added."""

    severity: Severity
    message: str
    evidence: dict[str, Any]
    consequence: str
    repair: str
    degree: Degree | None = None


BaseRule = Callable[[BaseView], Iterator[Outcome]]
AdapterRule = Callable[[AdapterView], Iterator[Outcome]]


@dataclass(frozen=True, slots=True)
class Check:
    """One rule with its name.

    Attributes:
        check_id: Stable name, as in reports, metrics and waivers.
        title: What must hold, in one line.
        why: What goes wrong where it does not, for the check's page; Markdown.
        of_base: The rule for the base, if it has one.
        of_adapter: The rule for an adapter, if it has one.
        needs_loaded: It judges nothing but the model in memory.
        needs_origin: It judges nothing but the comparison with what a folder was tuned from.
        needs_merge: It judges nothing but the comparison with what merging must have written.
        takes_foreign: It also judges an adapter of another family than the base's.
        is_decisive: What it finds fatal makes every other finding beside the point: no later check runs.
        is_for_sound: It advises on what is served, so that it has nothing to say while a fatal finding stands.
    """

    check_id: str
    title: str
    of_base: BaseRule | None = None
    of_adapter: AdapterRule | None = None
    needs_loaded: bool = False
    needs_origin: bool = False
    needs_merge: bool = False
    takes_foreign: bool = False
    is_decisive: bool = False
    is_for_sound: bool = False
    why: str = ""

    def run(self, view: BaseView | AdapterView) -> list[Finding]:
        """Apply the rule that fits the view. A rule that raises could not run, which is not the same as passed."""
        try:
            outcomes = list(self._apply(view))
        except Exception as error:  # a broken rule must not take the others down
            outcomes = [
                Outcome(
                    Severity.SKIPPED,
                    f"{self.check_id} could not run: {type(error).__name__}: {error}",
                    {},
                    "Whatever this check looks for would not have been seen.",
                    "Report this as a defect of the audit, with the JSON report.",
                )
            ]
        return [
            Finding(
                self.check_id,
                one.severity,
                view.subject,
                one.message,
                one.evidence,
                one.consequence,
                one.repair,
                one.degree,
            )
            for one in outcomes
        ]

    def concerns(self, view: BaseView | AdapterView) -> bool:
        """Say whether there is a rule for this kind of subject, and something that it can judge."""
        if self.needs_loaded and view.loaded is None:
            return False
        if isinstance(view, AdapterView) and not self.takes_foreign and view.is_foreign:
            return False
        if isinstance(view, BaseView) and (
            (self.needs_origin and view.origin is None) or (self.needs_merge and view.merge is None)
        ):
            return False
        return (self.of_base if isinstance(view, BaseView) else self.of_adapter) is not None

    def _apply(self, view: BaseView | AdapterView) -> Iterator[Outcome]:
        if isinstance(view, BaseView):
            return self.of_base(view) if self.of_base else iter(())
        return self.of_adapter(view) if self.of_adapter else iter(())


def fatal(message: str, evidence: dict[str, Any], consequence: str, repair: str) -> Outcome:
    """The subject must not be served."""
    return Outcome(Severity.FATAL, message, evidence, consequence, repair)


def warning(message: str, evidence: dict[str, Any], consequence: str, repair: str) -> Outcome:
    """Answers suffer in some requests."""
    return Outcome(Severity.WARNING, message, evidence, consequence, repair)


def note(message: str, evidence: dict[str, Any], consequence: str = "", repair: str = "") -> Outcome:
    """Worth knowing; answers are not affected."""
    return Outcome(Severity.NOTE, message, evidence, consequence, repair)


def skipped(message: str, repair: str = "") -> Outcome:
    """The facts that the check needs are missing."""
    return Outcome(Severity.SKIPPED, message, {}, "Whatever this check looks for would not have been seen.", repair)
