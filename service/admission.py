"""The door between the API and the engine: who may come in, who is in, and what they leave behind in numbers.

Does not know how a model is loaded or judged; `service.lifecycle` says what is ready. Implements
`service.api.ports.Service`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from service.audit.reports.document import finding_json
from service.domain.generation import Event, Failure, Generation, Job
from service.domain.judgement import BASE, Report, Severity, Verdict, adapter_subject
from service.domain.phase import Phase
from service.errors import AdapterRefused, AdapterUnknown, NotReady, Refused
from service.lifecycle import Lifecycle
from service.metrics import Metrics

if TYPE_CHECKING:
    from service.engine.engine import Engine
    from service.engine.prepared import Prepared

RETRY_SECONDS = 5
HOPELESS = frozenset({Phase.REJECTED, Phase.BROKEN})


class Admission:
    """Admits jobs to a lifecycle's engine. Only `prepare` may be called off the event loop.

    Args:
        lifecycle: Says the phase, the report and the engine.
        metrics: Where numbers go.
        adapter_ids: Configured adapters.
    """

    def __init__(self, lifecycle: Lifecycle, metrics: Metrics, adapter_ids: tuple[str, ...]) -> None:
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._adapter_ids = adapter_ids
        self._num_preparing = 0
        self._inflight: set[Prepared] = set()
        self._exposure: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))

    @property
    def phase(self) -> Phase:
        """Where the process is in its life."""
        return self._lifecycle.phase

    @property
    def reason(self) -> str:
        """Why jobs are not admitted; empty if they are, or if it is only starting."""
        return self._lifecycle.reason

    @property
    def report(self) -> Report | None:
        """The latest audit."""
        return self._lifecycle.report

    def fingerprint(self, adapter_id: str | None) -> str:
        """Return the fingerprint of the base, and behind a plus the adapter's; empty before the first audit."""
        report = self.report
        if report is None:
            return ""
        adapter = report.subjects.get(adapter_subject(adapter_id)) if adapter_id else None
        base = report.subjects[BASE].fingerprint
        return f"{base}+{adapter.fingerprint}" if adapter and adapter.fingerprint else base

    @property
    def is_alive(self) -> bool:
        """The engine, once it runs, gives signs of life."""
        return self._lifecycle.is_alive

    @property
    def adapter_ids(self) -> tuple[str, ...]:
        """Configured adapters, refused ones included."""
        return self._adapter_ids

    @property
    def num_inflight(self) -> int:
        """Jobs whose answer is on its way."""
        return len(self._inflight)

    def admit(self) -> None:
        """Refuse jobs in every phase but READY, and while there is no room for them.

        Raises:
            NotReady: Starting or draining.
            Refused: The base was refused, or the process is broken; with the findings.
            Overloaded: As much waits as may.
        """
        if self.phase in HOPELESS:
            raise Refused(self._state(), extra=self._fatal_findings(BASE))
        if self.phase is not Phase.READY:
            raise self._not_ready()
        self._check_room()

    def admit_adapter(self, adapter_id: str | None) -> None:
        """Refuse adapters that are not served.

        Raises:
            AdapterUnknown: Not configured.
            AdapterRefused: The audit refused it; with the findings.
        """
        if adapter_id is None:
            return
        if adapter_id not in self._adapter_ids:
            raise AdapterUnknown.among(adapter_id, self._adapter_ids)
        subject = adapter_subject(adapter_id)
        report = self.report
        if report is None or report.verdict(subject) is Verdict.INCONSISTENT:
            raise AdapterRefused(
                f"the audit refused adapter {adapter_id!r}; GET /health/tokenizer?adapter={adapter_id} says why",
                extra=self._fatal_findings(subject),
            )

    def prepare(self, job: Job, sink: Callable[[Event], None], arrived_at: float) -> "Prepared":
        """Encode a job, on the calling thread; however its answer ends, it is counted before the sink hears of it."""

        def count(event: Event) -> None:
            ended = event.partial if isinstance(event, Failure) else event
            if isinstance(ended, Generation):
                self._record(job, ended)
            sink(event)

        return self._engine().prepare(job, count, arrived_at)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place in the queue while a job is prepared, so that no picture is decoded to be refused.

        Raises:
            Overloaded: As much waits as may.
        """
        self._check_room()
        self._num_preparing += 1
        try:
            yield
        finally:
            self._num_preparing -= 1

    def submit(self, ticket: "Prepared") -> None:
        """Queue a prepared job.

        Raises:
            NotReady: The service began to shut down meanwhile.
            ServiceError: The engine does not take it.
        """
        if self.phase is not Phase.READY:
            raise self._not_ready()
        self._engine().submit(ticket)
        self._inflight.add(ticket)

    def cancel(self, ticket: "Prepared") -> None:
        """End a job early; harmless after its end."""
        self._inflight.discard(ticket)
        self._engine().cancel(ticket)

    def cancel_all(self) -> None:
        """End every job."""
        for ticket in list(self._inflight):
            self.cancel(ticket)

    def _record(self, job: Job, generation: Generation) -> None:
        self._metrics.observe_generation(job.adapter_id, generation)
        subject = BASE if job.adapter_id is None else adapter_subject(job.adapter_id)
        health = generation.token_health
        for where, counts in (("prompt", health.prompt), ("generated", health.generated)):
            for token_id, count in counts.items():
                self._exposure[subject][where][self.token_name(job.adapter_id, token_id)] += count

    def exposure(self, subject: str) -> Mapping[str, Mapping[str, int]]:
        """Return how often undertrained tokens occurred in prompts and answers, by token."""
        return {where: dict(self._exposure[subject][where]) for where in ("prompt", "generated")}

    def token_name(self, adapter_id: str | None, token_id: int) -> str:
        """Return an undertrained token's string."""
        subject = BASE if adapter_id is None else adapter_subject(adapter_id)
        report = self.report
        return report.subjects[subject].undertrained.get(token_id, "") if report else ""

    def scrape(self) -> tuple[bytes, str]:
        """Return the metrics with their content type."""
        if (engine := self._lifecycle.engine) is not None:
            self._metrics.set_engine(engine.stats())
            self._metrics.set_device_memory(engine.device_memory())
        self._metrics.set_phase(self.phase)
        return self._metrics.render()

    def describe(self) -> Mapping[str, Any]:
        """Return what is loaded."""
        return self._lifecycle.described

    def _check_room(self) -> None:
        """Refuse early what the engine's own queue would refuse."""
        self._engine().check_room(self._num_preparing)

    def _engine(self) -> "Engine":
        engine = self._lifecycle.engine
        if engine is None:
            raise self._not_ready()
        return engine

    def _not_ready(self) -> NotReady:
        way_out = f"try again in {RETRY_SECONDS} s; GET /health/ready answers 200 once it takes requests"
        return NotReady(f"{self._state()}; {way_out}", retry_after_seconds=RETRY_SECONDS)

    def _state(self) -> str:
        return f"the service is {self.phase.value}" + (f": {self.reason}" if self.reason else "")

    def _fatal_findings(self, subject: str) -> dict[str, Any]:
        """Return the findings that refuse a subject, for an error's body."""
        report = self.report
        if report is None or subject not in report.subjects:
            return {}
        found = [
            finding_json(one)
            for one in report.subjects[subject].findings
            if one.severity is Severity.FATAL and one.waiver is None
        ]
        return {"findings": found} if found else {}
