"""Probes, the audit's report and the metrics: answered from what is known, never by generating.

Knows no check and no metric name.
"""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.responses import Response

from service.api.document import TOKENIZER
from service.api.ports import Service
from service.audit.reports.document import report_json, subject_json
from service.domain.judgement import BASE, Verdict, adapter_subject
from service.domain.phase import Phase
from service.errors import AdapterUnknown

Route = TypeVar("Route", bound=Callable[..., Coroutine[Any, Any, Response]])


def health_router(service: Service[Any]) -> APIRouter:
    """Build the routes over a service."""
    router = APIRouter()

    @_get(router, "/health/live")
    @_get(router, "/livez", is_alias=True)
    async def live() -> Response:
        """The process answers and the engine, once it runs, gives signs of life; restart it if not."""
        return _probe(service, is_good=service.is_alive)

    @_get(router, "/health/ready")
    @_get(router, "/readyz", is_alias=True)
    async def ready() -> Response:
        """Jobs are admitted; send traffic only if so."""
        return _probe(service, is_good=service.phase is Phase.READY)

    @_get(router, "/health/startup")
    async def startup() -> Response:
        """The weights are loaded, or will never be; before that the other probes need not be asked."""
        return _probe(service, is_good=service.phase is not Phase.LOADING)

    @_get(router, "/health")
    async def health() -> Response:
        """A summary for people: phase, verdicts, what is loaded; 200 only when ready."""
        report = service.report
        verdicts = {subject: report.verdict(subject).value for subject in report.subjects} if report else {}
        body = {"loaded": dict(service.describe()), "verdicts": verdicts}
        return _probe(service, is_good=service.phase is Phase.READY, **body)

    @_get(router, "/health/tokenizer", responses=TOKENIZER)
    async def tokenizer(adapter: str | None = None) -> Response:
        """The audit of the base and every adapter; 200 when consistent, 503 when not or not yet known."""
        report = service.report
        if report is None:
            unknown = {"verdict": None, "phase": service.phase.value, "detail": service.reason or "not judged yet"}
            return JSONResponse(unknown, 503)
        if adapter is None:
            body: dict[str, Any] = {"phase": service.phase.value, **report_json(report)}
            for subject, part in body["subjects"].items():
                part["exposure"] = service.exposure(subject)
            return JSONResponse(body, 200 if report.overall is Verdict.CONSISTENT else 503)
        subject = BASE if adapter == BASE else adapter_subject(adapter)
        if subject not in report.subjects:
            raise AdapterUnknown.among(adapter[:64], service.adapter_ids)
        one = {"phase": service.phase.value, "subject": subject, **subject_json(report, subject)}
        one["exposure"] = service.exposure(subject)
        return JSONResponse(one, 200 if report.verdict(subject) is Verdict.CONSISTENT else 503)

    @_get(router, "/metrics")
    async def metrics() -> Response:
        """Prometheus text."""
        content, media_type = service.scrape()
        return Response(content, headers={"content-type": media_type})

    return router


def _get(
    router: APIRouter, path: str, *, is_alias: bool = False, responses: dict[int | str, dict[str, Any]] | None = None
) -> Callable[[Route], Route]:
    """Register a route for GET and HEAD, and document it once."""

    def register(route: Route) -> Route:
        router.add_api_route(path, route, methods=["GET", "HEAD"], include_in_schema=False)
        if not is_alias:
            router.add_api_route(
                path, route, methods=["GET"], responses=responses
            )  # never reached; the document shows it
        return route

    return register


def _probe(service: Service[Any], *, is_good: bool, **more: Any) -> Response:
    body: dict[str, Any] = {"phase": service.phase.value, **more}
    if service.reason:
        body["detail"] = service.reason
    return JSONResponse(body, 200 if is_good else 503, {"Cache-Control": "no-store"})
