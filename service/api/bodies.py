"""Reads a request's body, JSON or multipart, into a validated request and file parts.

Knows no model; a body that is wrong in any way becomes one of our errors, small and with the field's name.
"""

import json
from typing import Any, NoReturn

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from service.api.schemas import GenerateRequest
from service.errors import InvalidField, MalformedBody, UnsupportedMedia

JSON_PART, FILE_PART = "request", "image"
MAX_PROBLEMS = 10
MAX_ECHO_CHARACTERS = 100


async def read_request(request: Request, max_pictures: int, max_bytes: int) -> tuple[GenerateRequest, list[bytes]]:
    """Read and validate a body.

    Args:
        request: The request.
        max_pictures: Most file parts.
        max_bytes: Most bytes of the JSON part.

    Returns:
        The request and the content of its file parts, in order.

    Raises:
        UnsupportedMedia: Neither JSON nor multipart.
        MalformedBody: Not what the content type says.
        InvalidField: Fields are unknown, of the wrong type or out of range.
        BodyTooLarge: The body is over the limit.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("compressed bodies are not taken; send the body as it is")
    if content_type == "application/json":
        return validate(parse_json(await request.body())), []
    if content_type == "multipart/form-data":
        return await _read_multipart(request, max_pictures, max_bytes)
    raise UnsupportedMedia(
        f"content type {content_type[:80]!r} is not taken; send application/json, or multipart/form-data with a "
        f"{JSON_PART!r} part of JSON and {FILE_PART!r} file parts"
    )


def parse_json(body: bytes | str) -> dict[str, Any]:
    """Parse a JSON object; repeated keys, NaN and Infinity are refused.

    Raises:
        MalformedBody: It is not such an object.
    """
    try:
        parsed = json.loads(body, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise MalformedBody("the JSON is nested too deeply") from error
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, and integers of thousands of digits
        raise MalformedBody(f"the body is not JSON: {str(error)[:MAX_ECHO_CHARACTERS]}") from error
    if not isinstance(parsed, dict):
        raise MalformedBody(f"the body is a JSON {type(parsed).__name__}, an object is needed")
    return parsed


def validate(body: dict[str, Any]) -> GenerateRequest:
    """Check types and ranges.

    Raises:
        InvalidField: With every problem, up to ten.
    """
    try:
        return GenerateRequest.model_validate(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise InvalidField.of([(_field(one["loc"]), one["msg"]) for one in problems[:MAX_PROBLEMS]]) from None


async def _read_multipart(request: Request, max_pictures: int, max_bytes: int) -> tuple[GenerateRequest, list[bytes]]:
    try:
        form = await request.form(max_files=max_pictures, max_fields=1, max_part_size=max_bytes)
    except HTTPException as error:
        raise MalformedBody(f"the multipart body cannot be read: {error.detail}") from error
    async with request.form():
        unknown = sorted({name for name in form if name not in (JSON_PART, FILE_PART)})
        if unknown:
            raise InvalidField.of([(name[:MAX_ECHO_CHARACTERS], "unknown part") for name in unknown[:MAX_PROBLEMS]])
        text = form.get(JSON_PART)
        if isinstance(text, UploadFile):
            text = (await text.read()).decode("utf-8", "replace")
        if text is None:
            raise MalformedBody(f"the multipart body has no {JSON_PART!r} part")
        files = [await part.read() for part in form.getlist(FILE_PART) if isinstance(part, UploadFile)]
        if len(files) != len(form.getlist(FILE_PART)):
            raise MalformedBody(f"every {FILE_PART!r} part must be a file, with a filename")
        return validate(parse_json(text)), files


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {repeated[:MAX_ECHO_CHARACTERS]!r} is repeated")
    return unique


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _field(location: tuple[int | str, ...]) -> str:
    """Write a place like `messages.0.content.1.image`, without the names of union members."""
    shown = [str(one) for one in location if one not in ("str", "text", "image") or one == location[-1]]
    return ".".join(shown)[:MAX_ECHO_CHARACTERS] or "body"
