"""Renders every error as RFC 9457 `application/problem+json`; the only writer of error statuses.

Knows no route. Unknown exceptions become a 500 that says nothing but the request id.
"""

import json
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from service.errors import (
    BodyTooLarge,
    MalformedBody,
    MethodNotAllowed,
    NotFound,
    RequestError,
    ServiceError,
    Unauthorized,
)
from service.logs import LOGGER, request_id

MEDIA_TYPE = "application/problem+json"
MAX_DETAIL_CHARACTERS = 1000
MAX_ECHO_CHARACTERS = 100
RETRY_SECONDS = 60
"""For a refusal that ends only when somebody acts."""

HTTP_ERRORS: dict[int, type[RequestError]] = {
    400: MalformedBody,
    401: Unauthorized,
    404: NotFound,
    405: MethodNotAllowed,
    413: BodyTooLarge,
}
"""What Starlette raises by itself, in our terms."""


def install(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)


class _ProblemResponse(JSONResponse):
    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        # An echo of the client's words may hold half a surrogate pair; inside a JSON string its \u escape is valid.
        return json.dumps(content, ensure_ascii=False).encode("utf-8", "backslashreplace")


def problem(error: ServiceError) -> dict[str, Any]:
    """Return the body that describes an error; also used inside streams."""
    return {
        "type": f"urn:minicpm:problem:{error.kind}",
        "title": HTTPStatus(error.status).phrase,
        "status": int(error.status),
        "detail": error.detail[:MAX_DETAIL_CHARACTERS],
        "request_id": request_id.get(),
        **error.extra,
    }


def render(error: ServiceError) -> Response:
    """Return the response that tells a client about an error."""
    headers = {"x-should-retry": "true" if error.is_retryable else "false"}
    if error.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers["Retry-After"] = str(error.retry_after_seconds or RETRY_SECONDS)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, BodyTooLarge):
        headers["Connection"] = "close"  # what is left of the body is not worth reading
    return _ProblemResponse(problem(error), int(error.status), headers)


def as_service_error(error: Exception) -> ServiceError:
    """Return one of our errors as it is; log any other and hide it."""
    if not isinstance(error, ServiceError):
        LOGGER.error("unhandled exception", exc_info=error)
        return ServiceError("the service made a mistake; its log has the details under this request id")
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and error.__cause__ is not None:
        LOGGER.error(error.detail, exc_info=error.__cause__)
    return error


async def _on_service_error(request: Request, error: Exception) -> Response:
    return render(as_service_error(error))


async def _on_http_error(request: Request, error: Exception) -> Response:
    error = cast(HTTPException, error)
    kind = HTTP_ERRORS.get(error.status_code, MalformedBody)
    where = f"{request.method[:MAX_ECHO_CHARACTERS]} {request.scope['path']}"  # request.url trusts the Host header
    response = render(kind(f"{where[:MAX_ECHO_CHARACTERS]}: {_said(request, error)}"))
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


def _said(request: Request, error: HTTPException) -> str:
    """Say what Starlette says, and of a route or method that there is not which ones there are."""
    if error.status_code == HTTPStatus.NOT_FOUND:
        routes = ", ".join(sorted(request.app.openapi()["paths"]))
        return f"no such route; there are {routes}; GET /openapi.json has the fields of each"
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (allowed := (error.headers or {}).get("Allow")):
        return f"no such method here; it takes {allowed}"
    return error.detail


async def _on_disconnect(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; the log and the metrics do
