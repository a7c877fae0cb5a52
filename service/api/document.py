"""What the OpenAPI document says beyond what FastAPI sees: bodies that routes read themselves, and error bodies.

Serves nothing.
"""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from service.api.problems import MEDIA_TYPE
from service.api.schemas import GenerateRequest, Problem, StreamPiece, StreamSummary
from service.audit.reports.document import ReportDocument, SubjectDocument

FASTAPI_S_ERROR = "Validation Error"
REFERENCE = "#/components/schemas/{model}"
ERRORS = {
    400: "The body is not what its content type says, or prompt and answer do not fit the context.",
    401: "The API key is missing or wrong.",
    404: "No adapter of that name is configured.",
    413: "The body is over the limit.",
    415: "The content type is neither JSON nor multipart form data, or the body is compressed.",
    422: "A field or a picture cannot be used.",
    429: "The queue is full; try again after `Retry-After` seconds.",
    500: "The model failed on this request.",
    503: "Not ready, draining, or refused by the audit; `findings` says why.",
    504: "The request's time was over before its answer was complete.",
}


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=model.__name__)}


def _error(description: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": _reference(Problem)}}}


GENERATE: dict[str, Any] = {
    "responses": {
        200: {
            "description": "The answer; with `stream: true` pieces of text, a summary, and `[DONE]`.",
            "content": {
                "text/event-stream": {"schema": {"anyOf": [_reference(StreamPiece), _reference(StreamSummary)]}}
            },
        },
        **{status: _error(description) for status, description in ERRORS.items()},
    },
    "openapi_extra": {
        "security": [{"key": []}, {}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _reference(GenerateRequest)},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["request"],
                        "properties": {
                            "request": _reference(GenerateRequest),
                            "image": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        },
                    }
                },
            },
        },
    },
}
"""Arguments of the route."""


HEADER = {
    "x-checkpoint-fingerprint": {
        "description": "Which checkpoint answered: the base's fingerprint, and behind a plus the adapter's.",
        "schema": {"type": "string"},
    }
}
"""In every response, once the audit has read the folders."""

REPORT = {"application/json": {"schema": {"anyOf": [_reference(ReportDocument), _reference(SubjectDocument)]}}}
TOKENIZER: dict[int | str, dict[str, Any]] = {
    200: {"description": "Consistent.", "headers": HEADER, "content": REPORT},
    404: _error(ERRORS[404]),
    503: {"description": "Not consistent, or not judged yet.", "headers": HEADER, "content": REPORT},
}
"""Responses of `GET /health/tokenizer`: the whole report, or with `?adapter=` one subject's part."""


def _leave_out_fastapi_s_errors(document: dict[str, Any]) -> None:
    """Take out the 422 that FastAPI adds wherever a query is read: no query of ours can be refused so."""
    for path in document["paths"].values():
        for operation in path.values():
            if operation["responses"].get("422", {}).get("description") == FASTAPI_S_ERROR:
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def publish_schemas(app: FastAPI) -> None:
    """Put what `GENERATE` refers to into the document."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        for model in (GenerateRequest, Problem, StreamPiece, StreamSummary, ReportDocument, SubjectDocument):
            schema = model.model_json_schema(ref_template=REFERENCE)
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        _leave_out_fastapi_s_errors(document)
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        return document

    app.openapi = openapi  # type: ignore[method-assign]
