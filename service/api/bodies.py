"""Reads a request's body, JSON or multipart, into a validated request and file parts.

Knows no model; a body that is wrong in any way becomes one of our errors, small and with the field's name.
"""

import json
from typing import Any, NoReturn

from fastapi import Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from service.api.schemas import GenerateRequest
from service.errors import InvalidField, MalformedBody, UnsupportedMedia
from service.explaining import explain, no_such

JSON_PART, FILE_PART = "request", "image"
JSON_KINDS = {list: "array", str: "string", bool: "boolean", type(None): "null"}
MAX_KEYS = 64
"""Of one JSON object: more than any of ours has, and few enough to name what is unknown."""
MAX_COMMAS = 1_000_000
"""Bounds how many values a body has, and so how long the parser holds the interpreter's lock; base64 has no comma."""
MAX_PROBLEMS = 10
MAX_ECHO_CHARACTERS = 100
"""Of a client's own words in one error; they stand in it twice."""


async def read_request(request: Request, max_bytes: int) -> tuple[GenerateRequest, list[bytes]]:
    """Read and validate a body.

    Args:
        request: The request.
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
        return await run_in_threadpool(_read_json, await request.body()), []
    if content_type == "multipart/form-data":
        return await _read_multipart(request, max_bytes)
    raise UnsupportedMedia(
        f"content type {content_type[:80]!r} is not taken; send application/json (curl: -H 'content-type: "
        f"application/json'), or multipart/form-data with a {JSON_PART!r} part of JSON and {FILE_PART!r} file parts"
    )


def parse_json(body: bytes | str, what: str = "body") -> dict[str, Any]:
    """Parse a JSON object; repeated keys, hundreds of keys, NaN and Infinity are refused.

    Args:
        body: What was sent.
        what: How messages call it.

    Raises:
        MalformedBody: It is not such an object.
    """
    num_commas = body.count(",") if isinstance(body, str) else body.count(b",")
    if num_commas > MAX_COMMAS:
        raise MalformedBody(f"the {what} has millions of values")
    if not body.strip():
        raise MalformedBody(f"the {what} is empty, a JSON object is needed")
    try:
        parsed = json.loads(body, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise MalformedBody("the JSON is nested too deeply") from error
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, and integers of thousands of digits
        raise MalformedBody(f"the {what} is not JSON: {str(error)[: 2 * MAX_ECHO_CHARACTERS]}") from error
    if not isinstance(parsed, dict):
        kind = JSON_KINDS.get(type(parsed), "number")
        raise MalformedBody(f"the {what} is a JSON {kind}, an object is needed")
    return parsed


def validate(body: dict[str, Any]) -> GenerateRequest:
    """Check types and ranges.

    Raises:
        InvalidField: With every problem, up to ten.
    """
    try:
        return GenerateRequest.model_validate(body)
    except ValidationError as error:
        problems = explain(error, GenerateRequest, MAX_ECHO_CHARACTERS, MAX_PROBLEMS)
        share = MAX_ECHO_CHARACTERS // len(problems)
        raise InvalidField.of([(_field(place, share), text) for place, text in problems]) from None


def _read_json(body: bytes | str, what: str = "body") -> GenerateRequest:
    """Parse and validate; on a thread, because a large body takes long."""
    return validate(parse_json(body, what))


async def _read_multipart(request: Request, max_bytes: int) -> tuple[GenerateRequest, list[bytes]]:
    try:
        form = await request.form(max_fields=1, max_part_size=max_bytes)
    except HTTPException as error:
        if "Too many fields" in error.detail:
            raise MalformedBody(
                f"the multipart body has more than one part without a filename; only {JSON_PART!r} is one, and every "
                f"{FILE_PART!r} must be a file (curl: -F {FILE_PART}=@FILE)"
            ) from error
        raise MalformedBody(f"the multipart body cannot be read: {error.detail}") from error
    async with request.form():  # the same form again, to close its files
        unknown = sorted({name for name in form if name not in (JSON_PART, FILE_PART)})[:MAX_PROBLEMS]
        if unknown:
            share, parts = MAX_ECHO_CHARACTERS // len(unknown), (JSON_PART, FILE_PART)
            raise InvalidField.of([(_cut(name, share), no_such("part", name, parts)) for name in unknown])
        text = form.get(JSON_PART)
        content = await text.read() if isinstance(text, UploadFile) else text
        if content is None:
            raise MalformedBody(f"the multipart body has no {JSON_PART!r} part; send the JSON in it")
        files = [await part.read() for part in form.getlist(FILE_PART) if isinstance(part, UploadFile)]
        if len(files) != len(form.getlist(FILE_PART)):
            raise MalformedBody(f"every {FILE_PART!r} part must be a file, with a filename")
        if len(form.getlist(JSON_PART)) > 1:
            raise MalformedBody(f"the multipart body has more than one {JSON_PART!r} part")
        return await run_in_threadpool(_read_json, content, f"{JSON_PART!r} part"), files


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_KEYS:
        raise ValueError(f"an object has {len(pairs)} keys")
    unique = dict(pairs)
    if len(unique) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {_cut(repeated, MAX_ECHO_CHARACTERS)!a} is repeated")
    return unique


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _field(location: tuple[int | str, ...], max_characters: int) -> str:
    """Write a place like `messages.0.content.1.image`, without the names of union members."""
    shown = [str(one) for before, one in zip((None, *location), location, strict=False) if not _is_member(before, one)]
    return ".".join([*shown[:-1], _cut(shown[-1], max_characters)]) if shown else "body"


def _is_member(before: int | str | None, one: int | str) -> bool:
    """Say whether pydantic put the name of a union's member here: of the content, or of a part in its list."""
    if before == "content":
        return one in ("plain", "parts")
    return isinstance(before, int) and one in ("text", "image", "video")


def _cut(text: str, max_characters: int) -> str:
    return text if len(text) <= max_characters else text[: max_characters - 1] + "…"
