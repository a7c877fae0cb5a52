"""Puts the rooms together; the only file that knows every one of them.

Decides nothing: settings in, a FastAPI application out.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from service.admission import Admission
from service.api import problems
from service.api.auth import KeyCheck
from service.api.document import publish_schemas
from service.api.generate import generate_router
from service.api.health import health_router
from service.api.jobs import RequestLimits
from service.api.middleware import BodyLimit, Defects, Fingerprint, Recording, RequestId
from service.domain.phase import Phase
from service.lifecycle import Lifecycle, StartPlan
from service.media.limits import PictureLimits
from service.metrics import Metrics
from service.settings import Settings

STOP_SECONDS = 5.0
"""For the engine's thread to end its step."""


def create_app(settings: Settings, on_rejected: Callable[[], None] = lambda: None) -> FastAPI:
    """Build the service; loading begins when the application starts, on a thread of its own.

    Args:
        settings: Validated settings.
        on_rejected: Called once, from that thread, if the base is refused or loading fails.

    Returns:
        The application; `app.state` holds its `lifecycle` and its `admission`.
    """
    metrics = Metrics(CollectorRegistry(), settings.adapters)
    lifecycle = Lifecycle(start_plan(settings), metrics, on_rejected)
    admission = Admission(lifecycle, metrics, tuple(settings.adapters))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        lifecycle.start()
        yield
        admission.cancel_all()
        lifecycle.stop(STOP_SECONDS)

    app = FastAPI(
        title="MiniCPM service",
        version=version("minicpm-service"),
        summary="Serves LoRA-tuned MiniCPM models and refuses the ones whose tokenizer and embeddings do not agree.",
        lifespan=lifespan,
        redirect_slashes=False,  # a redirect would repeat the Host header of whoever asks
    )
    app.state.lifecycle = lifecycle
    app.state.admission = admission
    key = settings.api_key.get_secret_value() if settings.api_key else None
    app.include_router(generate_router(admission, _limits(settings), settings.max_body_bytes, KeyCheck(key)))
    app.include_router(health_router(admission))
    problems.install(app)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(Defects)
    app.add_middleware(
        Recording, observe=metrics.observe_request, is_draining=lambda: lifecycle.phase is Phase.DRAINING
    )
    app.add_middleware(Fingerprint, fingerprint_of=admission.fingerprint)
    app.add_middleware(RequestId)
    publish_schemas(app)
    return app


def start_plan(settings: Settings) -> StartPlan:
    """Translate settings into the lifecycle's plain values."""
    return StartPlan(
        model=settings.model,
        revision=settings.revision,
        adapters=settings.adapters,
        merged_adapter=settings.merged_adapter,
        trusted_remote_code=settings.trusted_remote_code,
        device=settings.device,
        dtype=settings.dtype,
        attention=settings.attention,
        quantization=settings.quantization,
        max_waiting=settings.max_waiting,
        max_running=settings.max_running,
        cache_memory=settings.cache_memory,
        max_new_tokens=settings.max_new_tokens,
        stall_seconds=settings.stall_seconds,
        policy=settings.audit_policy,
        waivers=tuple(one.to_waiver() for one in settings.audit_waivers),
    )


def _limits(settings: Settings) -> RequestLimits:
    return RequestLimits(
        pictures=PictureLimits(max_pixels=settings.max_picture_pixels, max_bytes=settings.max_body_bytes),
        max_pictures=settings.max_pictures,
        max_new_tokens=settings.max_new_tokens,
        timeout_seconds=settings.timeout_seconds,
    )
