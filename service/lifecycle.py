"""Decides: load -> measure -> audit -> warm -> ready; the only writer of the phase.

Speaks no HTTP, reads no file and touches no tensor: it calls the rooms that do, in order.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.domain.facts import BaseFacts, CheckpointFacts, LoadedFacts
from service.domain.judgement import BASE, MERGED, Finding, Policy, Report, Severity, Verdict, Waiver, adapter_subject
from service.domain.phase import Phase
from service.errors import CheckpointError, CheckpointUnreadable, UnsafeCheckpoint
from service.logs import LOGGER, log
from service.metrics import Metrics

if TYPE_CHECKING:
    from service.checkpoint.locating import Location
    from service.engine.engine import Engine
    from service.engine.loading import LoadedModel

WARM_SECONDS = 600.0
RUNNING = frozenset({Phase.WARMING, Phase.READY, Phase.DRAINING})
"""Phases in which the engine's thread must be alive."""


@dataclass(frozen=True, slots=True)
class StartPlan:
    """What to serve, in plain values; see `service.settings.Settings` for their meaning."""

    model: str
    revision: str | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)
    merged_adapter: str | None = None
    trusted_remote_code: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    attention: str = "auto"
    quantization: str = "none"
    max_waiting: int = 64
    max_running: int = 64
    cache_memory: float | None = None
    max_new_tokens: int = 2048
    stall_seconds: float = 120.0
    policy: Policy = Policy.DEFAULT
    waivers: Sequence[Waiver] = ()

    def is_code_trusted(self) -> bool:
        """Compare the setting with the model, to the letter: trust is given to one folder or one commit.

        Raises:
            UnsafeCheckpoint: The setting names something else.
        """
        if self.trusted_remote_code is None:
            return False
        exact = f"{self.model}@{self.revision}" if self.revision else self.model
        if self.trusted_remote_code != exact:
            raise UnsafeCheckpoint(
                f"MINICPM_TRUSTED_REMOTE_CODE is {self.trusted_remote_code!r}, but the model is {exact!r}: "
                "name exactly the folder, or the hub id with @commit, whose code you have read"
            )
        return True


class Lifecycle:
    """One process's life.

    Args:
        plan: What to serve.
        metrics: Where numbers go.
        on_rejected: Called once, from the lifecycle's thread, if the base is refused or loading fails.
    """

    def __init__(self, plan: StartPlan, metrics: Metrics, on_rejected: Callable[[], None] = lambda: None) -> None:
        self._plan = plan
        self._metrics = metrics
        self._on_rejected = on_rejected
        self._lock = threading.Lock()
        self._phase = Phase.LOADING
        self._reason = ""
        self._report: Report | None = None
        self._engine: Engine | None = None
        self._described: Mapping[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="lifecycle", daemon=True)

    def start(self) -> None:
        """Begin on a thread of its own; returns at once."""
        self._thread.start()

    @property
    def phase(self) -> Phase:
        """Where the process is in its life."""
        if self._phase in RUNNING and self._engine is not None and not self._engine.is_alive:
            self._enter(Phase.BROKEN, "the engine's thread died; restart the process")
        return self._phase

    @property
    def reason(self) -> str:
        """Why jobs are not admitted; empty if they are, or if it is only starting."""
        return self._reason

    @property
    def report(self) -> Report | None:
        """The latest audit; None before the first."""
        return self._report

    @property
    def described(self) -> Mapping[str, str]:
        """What is loaded and where; empty before."""
        return self._described

    @property
    def engine(self) -> "Engine | None":
        """The engine, once the audit let what is loaded begin."""
        return self._engine

    @property
    def is_alive(self) -> bool:
        """False if the engine died or hangs, or if starting failed."""
        phase = self.phase
        if phase is Phase.BROKEN:
            return False
        if self._engine is None or phase not in (Phase.READY, Phase.DRAINING):
            return True
        return time.time() - self._engine.heartbeat < self._plan.stall_seconds

    def drain(self) -> None:
        """Admit no more jobs; those in flight go on."""
        self._enter(Phase.DRAINING, "it is shutting down")

    def stop(self, wait_seconds: float) -> None:
        """End the engine after the job in hand, and wait for that at most so long."""
        if self._engine is not None:
            self._engine.stop()
            self._engine.join(wait_seconds)

    def _run(self) -> None:
        try:
            self._begin()
        except CheckpointError as error:  # starting again would end the same way: stay up and say why
            self._end(Phase.REJECTED, error.detail)
        except Exception as error:  # whatever goes wrong on the way must be seen from outside
            LOGGER.exception("start failed")
            self._end(Phase.BROKEN, f"starting failed with {type(error).__name__}: the log has the details")

    def _begin(self) -> None:
        is_code_trusted = self._plan.is_code_trusted()
        base, adapters, lost = self._locate()
        with self._timed("import"):
            from service.engine.load_report import adopt_transformers

            adopt_transformers()
        with self._timed("read"):
            facts = self._read(base, adapters, lost, is_code_trusted)
        if self._is_refused("files", facts, None):
            return
        with self._timed("load"):
            served = {one: place for one, place in adapters.items() if self._is_consistent(one)}
            loaded = self._load(base, served, facts.base, is_code_trusted)
        self._enter(Phase.AUDITING)
        with self._timed("measure"):
            measured = self._measure(loaded)
        if self._is_refused("loaded", facts, measured) or self._is_damaged(measured):
            return
        self._show_loaded(loaded, facts, measured)
        self._enter(Phase.WARMING)
        with self._timed("warm"):
            self._warm(loaded)
        self._enter(Phase.READY)

    def _locate(self) -> "tuple[Location, dict[str, Location], dict[str, str]]":
        """Find the folders; an adapter that is not found is refused later, and the others are served."""
        from service.checkpoint.locating import locate
        from service.demo import demo_bases

        plan = self._plan
        demos = demo_bases()
        reference = str(demos.get(plan.model, plan.model))
        try:
            base = locate(reference, plan.revision, with_code=plan.trusted_remote_code is not None)
        except CheckpointUnreadable as error:
            if not plan.model.startswith("demo"):
                raise
            raise CheckpointUnreadable(f"{error.detail}; the built-in demos are {' and '.join(demos)}") from error
        found, lost = {}, {}
        wanted = {**plan.adapters, **({MERGED: plan.merged_adapter} if plan.merged_adapter else {})}
        for adapter_id, place in wanted.items():
            try:
                found[adapter_id] = locate(place)
            except CheckpointUnreadable as error:
                lost[adapter_id] = error.detail
        return base, found, lost

    def _read(
        self, base: "Location", adapters: "dict[str, Location]", lost: Mapping[str, str], is_code_trusted: bool
    ) -> CheckpointFacts:
        from service.checkpoint.reading import read_checkpoint

        return read_checkpoint(base, adapters, lost, is_code_trusted=is_code_trusted)

    def _load(
        self, base: "Location", adapters: "dict[str, Location]", facts: BaseFacts, is_code_trusted: bool
    ) -> "LoadedModel":
        from service.audit.usage import control_tokens
        from service.engine.loading import LoadPlan, load

        plan = self._plan
        folders = {one: place.folder for one, place in adapters.items()}
        load_plan = LoadPlan(
            base=base.folder,
            merged_adapter=folders.pop(MERGED, None) if plan.merged_adapter else None,
            adapters=folders,
            control_tokens=control_tokens(facts),
            device=plan.device,
            dtype=plan.dtype,
            attention=plan.attention,
            quantization=plan.quantization,
            is_code_trusted=is_code_trusted,
        )
        return load(load_plan)

    def _measure(self, loaded: "LoadedModel") -> LoadedFacts:
        from service.engine.measuring import measure

        return measure(loaded)

    def _is_refused(self, stage: str, facts: CheckpointFacts, loaded: LoadedFacts | None) -> bool:
        """Audit, publish the report, and end the start if the base (or what is merged into it) is refused."""
        from service.audit.judging import audit

        started = time.monotonic()
        report = audit(facts, loaded, self._plan.policy, self._plan.waivers)
        self._report = report
        self._metrics.audit_duration.labels(stage).set(time.monotonic() - started)
        self._metrics.set_report(report)
        for finding in report.findings():
            _log_finding(finding)
        if loaded is not None:
            for waiver in report.unmatched:
                log(logging.WARNING, "waiver without a finding", check=waiver.check, subject=waiver.subject)
        decisive = [BASE, adapter_subject(MERGED)] if self._plan.merged_adapter else [BASE]
        refused = [one for one in decisive if report.verdict(one) is Verdict.INCONSISTENT]
        if refused:
            findings = report.subjects[refused[-1]].findings
            first = next(one for one in findings if one.waiver is None and one.severity is not Severity.NOTE)
            why = f"the audit refused {refused[-1]}: {first.message}; GET /health/tokenizer says more"
            self._end(Phase.REJECTED, why)
        return bool(refused)

    def _is_damaged(self, loaded: LoadedFacts) -> bool:
        """End the start if mounting an adapter changed the base: what it was is gone, so nobody may be served."""
        culprits = [one for one, facts in loaded.adapters.items() if facts.has_changed_base]
        if culprits:
            self._end(
                Phase.REJECTED,
                f"loading adapter {culprits[0]!r} changed the base's weights; serve without that adapter",
            )
        return bool(culprits)

    def _is_consistent(self, adapter_id: str) -> bool:
        return self._report is not None and self._report.verdict(adapter_subject(adapter_id)) is Verdict.CONSISTENT

    def _warm(self, loaded: "LoadedModel") -> None:
        """Drop the adapters that the loaded facts refused, start the engine, and answer once with each other one."""
        from service.engine.engine import Engine, Limits

        plan, report = self._plan, self._report
        for adapter_id in plan.adapters:
            if not self._is_consistent(adapter_id):
                loaded.drop(adapter_id)
        limits = Limits(plan.max_waiting, plan.max_running, plan.max_new_tokens, plan.cache_memory)
        engine = self._engine = Engine(loaded, limits, self._metrics.observe_step)
        for one in (*loaded.adapters, None):
            engine.warm(one, WARM_SECONDS)
        if report is not None:
            watched: dict[str | None, Mapping[int, str]]
            watched = {one: report.subjects[adapter_subject(one)].undertrained for one in plan.adapters}
            engine.watch_tokens({**watched, None: report.subjects[BASE].undertrained})

    def _show_loaded(self, loaded: "LoadedModel", facts: CheckpointFacts, measured: LoadedFacts) -> None:
        described = self._described = loaded.describe()
        self._metrics.set_checkpoint(facts.base.name, facts.base.fingerprint, described["dtype"], described["device"])
        for adapter_id, adapter in facts.adapters.items():
            mode = "merged" if adapter_id == MERGED and self._plan.merged_adapter else "mounted"
            mode = mode if self._is_consistent(adapter_id) else "refused"
            self._metrics.adapter_info.labels(adapter_id, adapter.fingerprint, mode).set(1)
        warnings = [*measured.base.warnings, *(one for each in measured.adapters.values() for one in each.warnings)]
        for warning in warnings:
            self._metrics.load_warnings.labels(warning.source).inc()

    def _end(self, phase: Phase, reason: str) -> None:
        self._enter(phase, reason)
        self._on_rejected()

    def _enter(self, phase: Phase, reason: str = "") -> None:
        with self._lock:
            if self._phase is Phase.DRAINING and phase is not Phase.BROKEN:
                return  # a start that ends while the process shuts down must not open the door again
            self._phase, self._reason = phase, reason
            self._metrics.set_phase(phase)
        log(logging.WARNING if reason else logging.INFO, "phase", phase=phase.value, reason=reason)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        self._metrics.load_duration.labels(stage).set(seconds)
        log(logging.INFO, "stage", stage=stage, seconds=round(seconds, 3))


def _log_finding(finding: Finding) -> None:
    is_quiet = finding.severity is Severity.NOTE or finding.waiver is not None
    log(
        logging.INFO if is_quiet else logging.WARNING,
        "finding",
        check=finding.check,
        severity=finding.severity.value,
        subject=finding.subject,
        detail=finding.message,
        evidence=json.dumps(dict(finding.evidence), ensure_ascii=False)[:2000],
    )
