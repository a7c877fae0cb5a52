"""What the API needs of the house behind it.

`service.admission.Admission` provides it. All but `prepare` is called on the event loop.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from service.domain.generation import Event, Job
from service.domain.judgement import Report
from service.domain.phase import Phase

Ticket = TypeVar("Ticket")
"""A prepared job; opaque to the API."""


class Service(Protocol[Ticket]):
    """A service that admits jobs when it is ready."""

    @property
    def phase(self) -> Phase:
        """Where the process is in its life."""

    @property
    def reason(self) -> str:
        """Why it is rejected, broken or draining; empty otherwise."""

    @property
    def report(self) -> Report | None:
        """The latest audit; None before the first."""

    @property
    def is_alive(self) -> bool:
        """The engine, once it runs, gives signs of life."""

    @property
    def adapter_ids(self) -> tuple[str, ...]:
        """Configured adapters, refused ones included."""

    def admit(self) -> None:
        """Raise NotReady, Refused or Overloaded unless jobs are admitted now."""

    def admit_adapter(self, adapter_id: str | None) -> None:
        """Raise AdapterUnknown or AdapterRefused unless that adapter is served."""

    def place(self) -> AbstractContextManager[None]:
        """Hold a place in the queue while a job is prepared; raise Overloaded if there is none."""

    def prepare(self, job: Job, sink: Callable[[Event], None], arrived_at: float) -> Ticket:
        """Encode a job, on the calling thread."""

    def submit(self, ticket: Ticket) -> None:
        """Queue a prepared job."""

    def cancel(self, ticket: Ticket) -> None:
        """End a job early; harmless after its end."""

    def exposure(self, subject: str) -> Mapping[str, Mapping[str, int]]:
        """Return how often undertrained tokens occurred in prompts and answers."""

    def token_name(self, adapter_id: str | None, token_id: int) -> str:
        """Return an undertrained token's string."""

    def scrape(self) -> tuple[bytes, str]:
        """Return the metrics and their content type."""

    def describe(self) -> Mapping[str, Any]:
        """Return what is loaded."""
