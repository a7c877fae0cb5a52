"""Every Prometheus name of the service, in one class, on an injected registry.

Knows no room; the rooms' plain numbers are recorded here, once, at the edge.
"""

import platform
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from service.domain.generation import Generation
from service.domain.judgement import UNKNOWN, Report, Severity, Verdict
from service.domain.phase import Phase
from service.domain.stats import EngineStats, StepKind, StepStats

NO_ADAPTER = "base"
"""The adapter label of requests that the base answers."""

OUTCOMES = ("ok", "client_error", "server_error", "overloaded", "refused", "cancelled")
"""How a request can end: `overloaded` is 429, `refused` is 503, `cancelled` a client that hung up."""
LATENCY_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
REQUEST_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The metrics of one process.

    Args:
        registry: Where the series live; tests pass their own.
        adapter_ids: Configured adapters, so that every series exists from the start.
    """

    def __init__(self, registry: CollectorRegistry, adapter_ids: Iterable[str] = ()) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # twice as many series, for nothing that a dashboard needs
        self.registry = registry
        self._lock = threading.Lock()
        self._counted: dict[Counter, int] = defaultdict(int)
        self.adapters = (NO_ADAPTER, *adapter_ids)
        self._define_requests(registry)
        self._define_engine(registry)
        self._define_checkpoint(registry)
        self._define_audit(registry)
        self._create_series()

    def _define_requests(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "minicpm_requests", "Requests by outcome.", ["route", "adapter", "outcome"], registry=registry
        )
        self.request_duration = Histogram(
            "minicpm_request_duration_seconds",
            "Time from arrival to the last byte.",
            ["route", "adapter"],
            buckets=REQUEST_SECONDS,
            registry=registry,
        )
        self.queue_duration = Histogram(
            "minicpm_queue_duration_seconds",
            "Time in the queue.",
            ["adapter"],
            buckets=LATENCY_SECONDS,
            registry=registry,
        )
        self.preprocess_duration = Histogram(
            "minicpm_preprocess_duration_seconds",
            "Time to turn messages and pictures into tensors.",
            buckets=LATENCY_SECONDS,
            registry=registry,
        )
        self.time_to_first_token = Histogram(
            "minicpm_time_to_first_token_seconds",
            "Time from arrival to the first token.",
            ["adapter"],
            buckets=LATENCY_SECONDS,
            registry=registry,
        )
        self.inter_token_latency = Histogram(
            "minicpm_inter_token_latency_seconds",
            "Time between two tokens of an answer.",
            ["adapter"],
            buckets=LATENCY_SECONDS,
            registry=registry,
        )
        self.prompt_tokens = Counter(
            "minicpm_prompt_tokens", "Tokens read, picture tokens included.", ["adapter"], registry=registry
        )
        self.image_tokens = Counter(
            "minicpm_image_tokens", "Tokens that stand for pictures.", ["adapter"], registry=registry
        )
        self.generated_tokens = Counter("minicpm_generated_tokens", "Tokens written.", ["adapter"], registry=registry)

    def _define_engine(self, registry: CollectorRegistry) -> None:
        self.requests_running = Gauge("minicpm_requests_running", "Requests on the device.", registry=registry)
        self.requests_waiting = Gauge("minicpm_requests_waiting", "Requests in the queue.", registry=registry)
        self.slots = Gauge("minicpm_slots", "Requests that can be computed at once.", registry=registry)
        self.cache_usage = Gauge(
            "minicpm_cache_usage_ratio", "Share of the slots' memory in use, 0 to 1.", registry=registry
        )
        self.step_duration = Histogram(
            "minicpm_step_duration_seconds",
            "Time of one step of the engine.",
            ["kind"],
            buckets=LATENCY_SECONDS,
            registry=registry,
        )
        self.step_sequences = Histogram(
            "minicpm_step_sequences",
            "Sequences that one step served.",
            ["kind"],
            buckets=SEQUENCES,
            registry=registry,
        )
        self.image_cache_lookups = Counter(
            "minicpm_image_cache_lookups", "Picture parts looked up before encoding.", ["result"], registry=registry
        )
        self.prefix_cache_tokens = Counter(
            "minicpm_prefix_cache_tokens", "Prompt tokens remembered, or computed.", ["result"], registry=registry
        )
        self.nonfinite = Counter(
            "minicpm_nonfinite_answers", "Answers ended by NaN or infinity in the logits.", registry=registry
        )
        self.out_of_memory = Counter(
            "minicpm_out_of_memory_answers", "Answers ended by lack of device memory.", registry=registry
        )
        self.preemptions = Counter(
            "minicpm_preemptions", "Requests that began again for lack of device memory.", registry=registry
        )
        self.heartbeat = Gauge(
            "minicpm_engine_heartbeat_timestamp_seconds", "When the engine last said it lives.", registry=registry
        )
        self.device_memory = Gauge(
            "minicpm_device_memory_bytes", "Memory of the device by kind.", ["kind"], registry=registry
        )

    def _define_checkpoint(self, registry: CollectorRegistry) -> None:
        self.phase = Gauge("minicpm_phase", "1 for the phase the process is in.", ["phase"], registry=registry)
        self.load_duration = Gauge(
            "minicpm_load_duration_seconds", "Time of each stage of starting.", ["stage"], registry=registry
        )
        self.build = Info("minicpm_build", "Versions of the service and of Python.", registry=registry)
        self.checkpoint = Info("minicpm_checkpoint", "What is loaded.", registry=registry)
        self.adapter_info = Gauge(
            "minicpm_adapter_info", "1 for every adapter.", ["adapter", "fingerprint", "mode"], registry=registry
        )
        self.load_warnings = Counter(
            "minicpm_load_warnings", "Warnings of libraries while loading.", ["source"], registry=registry
        )

    def _define_audit(self, registry: CollectorRegistry) -> None:
        self.audit_verdict = Gauge("minicpm_audit_verdict", "1 consistent, 0 not.", ["subject"], registry=registry)
        self.audit_findings = Gauge(
            "minicpm_audit_findings", "Findings of the audit.", ["subject", "check", "severity"], registry=registry
        )
        self.audit_duration = Gauge(
            "minicpm_audit_duration_seconds", "Time of each stage of the audit.", ["stage"], registry=registry
        )
        self.undertrained_tokens = Gauge(
            "minicpm_undertrained_tokens", "Tokens in use whose rows nobody trained.", ["subject"], registry=registry
        )
        self.undertrained_occurrences = Counter(
            "minicpm_undertrained_token_occurrences",
            "Occurrences of such tokens in traffic.",
            ["subject", "where"],
            registry=registry,
        )

    def _create_series(self) -> None:
        """Make every series that can be known exist, so that a rate over it never starts with a gap."""
        self.set_phase(Phase.LOADING)
        self.build.info({"version": version("minicpm-service"), "python": platform.python_version()})
        for kind in StepKind:
            self.step_duration.labels(kind.value)
            self.step_sequences.labels(kind.value)
        for result in ("hit", "miss"):
            self.image_cache_lookups.labels(result)
            self.prefix_cache_tokens.labels(result)
        for source in ("transformers", "peft", "python"):
            self.load_warnings.labels(source)
        for adapter in (*self.adapters, UNKNOWN):
            for outcome in OUTCOMES:
                self.requests.labels("/generate", adapter, outcome)
            self.request_duration.labels("/generate", adapter)
        for adapter in self.adapters:
            for one in (self.queue_duration, self.time_to_first_token, self.inter_token_latency):
                one.labels(adapter)
            for counter in (self.prompt_tokens, self.image_tokens, self.generated_tokens):
                counter.labels(adapter)
            subject = _subject(adapter)
            self.undertrained_tokens.labels(subject)
            for where in ("prompt", "generated"):
                self.undertrained_occurrences.labels(subject, where)

    def set_phase(self, phase: Phase) -> None:
        """Show the phase: 1 for the one in force, 0 for the others."""
        for one in Phase:
            self.phase.labels(one.value).set(one is phase)

    def set_report(self, report: Report) -> None:
        """Show an audit's verdicts and findings."""
        self.audit_findings.clear()
        for subject, one in report.subjects.items():
            self.audit_verdict.labels(subject).set(report.verdict(subject) is Verdict.CONSISTENT)
            self.undertrained_tokens.labels(subject).set(len(one.undertrained))
            for check in one.checks:
                for severity in Severity:
                    count = sum(f.check == check and f.severity is severity for f in one.findings)
                    self.audit_findings.labels(subject, check, severity.value).set(count)

    def set_engine(self, stats: EngineStats) -> None:
        """Show how the engine stands."""
        self.requests_running.set(stats.running)
        self.requests_waiting.set(stats.waiting)
        self.slots.set(stats.slots)
        self.cache_usage.set(stats.cache_usage)
        self.heartbeat.set(stats.heartbeat)
        self._count(self.image_cache_lookups.labels("hit"), stats.picture_hits)
        self._count(self.image_cache_lookups.labels("miss"), stats.picture_misses)
        self._count(self.prefix_cache_tokens.labels("hit"), stats.prefix_hit_tokens)
        self._count(self.prefix_cache_tokens.labels("miss"), stats.prefix_missed_tokens)
        self._count(self.nonfinite, stats.nonfinite)
        self._count(self.out_of_memory, stats.out_of_memory)
        self._count(self.preemptions, stats.preemptions)

    def _count(self, counter: Counter, total: int) -> None:
        """Bring a counter up to a total that is counted elsewhere."""
        with self._lock:
            counter.inc(total - self._counted[counter])
            self._counted[counter] = total

    def observe_step(self, step: StepStats) -> None:
        """Record one step of the engine; called on its thread."""
        self.step_duration.labels(step.kind.value).observe(step.seconds)
        self.step_sequences.labels(step.kind.value).observe(step.sequences)

    def set_checkpoint(self, base: str, fingerprint: str, dtype: str, device: str) -> None:
        """Show what is loaded, with the versions of the libraries that read it."""
        versions = {name: version(name) for name in ("transformers", "peft", "torch")}
        self.checkpoint.info({"base": base, "fingerprint": fingerprint, "dtype": dtype, "device": device, **versions})

    def render(self) -> tuple[bytes, str]:
        """Return all series as Prometheus text, with its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4

    def set_device_memory(self, bytes_by_kind: Mapping[str, int]) -> None:
        """Show the device's memory."""
        for kind, value in bytes_by_kind.items():
            self.device_memory.labels(kind).set(value)

    def observe_request(self, route: str, adapter_id: str | None, outcome: str, seconds: float) -> None:
        """Record one finished request; an adapter that is not configured counts as unknown."""
        is_configured = adapter_id in self.adapters[1:]
        adapter = NO_ADAPTER if adapter_id is None else adapter_id if is_configured else UNKNOWN
        self.requests.labels(route, adapter, outcome).inc()
        self.request_duration.labels(route, adapter).observe(seconds)

    def observe_generation(self, adapter_id: str | None, generation: Generation) -> None:
        """Record what the engine measured about one answer."""
        adapter = adapter_id or NO_ADAPTER
        timings, usage = generation.timings, generation.usage
        self.queue_duration.labels(adapter).observe(timings.queue_seconds)
        self.preprocess_duration.observe(timings.preprocess_seconds)
        if usage.generated_tokens:
            self.time_to_first_token.labels(adapter).observe(timings.time_to_first_token_seconds)
        for seconds in timings.inter_token_seconds:
            self.inter_token_latency.labels(adapter).observe(seconds)
        self.prompt_tokens.labels(adapter).inc(usage.prompt_tokens)
        self.image_tokens.labels(adapter).inc(usage.image_tokens)
        self.generated_tokens.labels(adapter).inc(usage.generated_tokens)
        subject = _subject(adapter)
        health = generation.token_health
        self.undertrained_occurrences.labels(subject, "prompt").inc(sum(health.prompt.values()))
        self.undertrained_occurrences.labels(subject, "generated").inc(sum(health.generated.values()))


def _subject(adapter: str) -> str:
    return adapter if adapter == NO_ADAPTER else f"adapter:{adapter}"
