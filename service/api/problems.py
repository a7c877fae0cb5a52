"""Renders every error as RFC 9457 `application/problem+json`; the only writer of error statuses.

Knows no route. Unknown exceptions become a 500 that says nothing but the request id.
"""

import logging
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
MAX_DETAIL_CHARACTERS = 2000

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
    app.add_exception_handler(Exception, _on_defect)


def problem(error: ServiceError) -> dict[str, Any]:
    """Return the body that describes an error; also used inside streams."""
    return {
        "type": f"urn:minicpm:problem:{error.kind}",
        "title": HTTPStatus(error.status).phrase,
        "status": int(error.status),
        "detail": error.detail[:MAX_DETAIL_CHARACTERS],
        "request_id": request_id.get(),
        **{key: value for key, value in error.extra.items() if key != "headers"},
    }


def render(error: ServiceError) -> Response:
    """Return the response that tells a client about an error."""
    headers = {"x-should-retry": "true" if error.is_retryable else "false"}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    headers.update(error.extra.get("headers", {}))
    return JSONResponse(problem(error), int(error.status), headers, media_type=MEDIA_TYPE)


async def _on_service_error(request: Request, error: Exception) -> Response:
    error = cast(ServiceError, error)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and error.__cause__ is not None:
        LOGGER.error(error.detail, exc_info=error.__cause__)
    return render(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    error = cast(HTTPException, error)
    kind = HTTP_ERRORS.get(error.status_code, MalformedBody)
    detail = f"{request.method} {request.url.path[:100]}: {error.detail}"
    response = render(kind(detail))
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


async def _on_disconnect(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; the access log and the metrics do


async def _on_defect(request: Request, error: Exception) -> Response:
    LOGGER.log(logging.ERROR, "unhandled exception", exc_info=error)
    return render(ServiceError("the service made a mistake; its log has the details under this request id"))
