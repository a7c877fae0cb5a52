"""What happens around every request: an id, a bound on the body, one log line and one count.

Plain ASGI; knows no schema.
"""

import logging
import re
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import as_service_error, render
from service.domain.judgement import UNKNOWN
from service.errors import BodyTooLarge
from service.logs import log, request_id

CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
QUIET = ("/health", "/livez", "/readyz", "/metrics")
"""Paths that are asked every few seconds and are logged only when they fail."""

Observer = Callable[[str, str | None, str, float], None]
"""Takes route, adapter (None for the base, a name that is not configured for an unknown one), outcome and seconds."""


class RequestId:
    """Gives every request an id, the client's own if it is well formed, and returns it in `x-request-id`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        one = given if CLIENT_ID.fullmatch(given) else uuid.uuid4().hex
        token = request_id.set(one)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = one
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            request_id.reset(token)


class Fingerprint:
    """Says in `x-checkpoint-fingerprint` which checkpoint answers: the base's, and the adapter's behind a plus.

    Routes leave `adapter` in the request's state.
    """

    def __init__(self, app: ASGIApp, fingerprint_of: Callable[[str | None], str]) -> None:
        self.app = app
        self._fingerprint_of = fingerprint_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_fingerprint(message: Message) -> None:
            if message["type"] == "http.response.start":
                value = self._fingerprint_of(scope.get("state", {}).get("adapter"))
                if value:
                    MutableHeaders(scope=message)["x-checkpoint-fingerprint"] = value
            await send(message)

        await self.app(scope, receive, send_with_fingerprint if scope["type"] == "http" else send)


class Recording:
    """Logs and counts every request once, when its last byte is about to be sent or never will be.

    Routes leave `adapter`, once they know it, and `outcome` if the status does not tell it in the request's state.
    """

    def __init__(self, app: ASGIApp, observe: Observer, is_draining: Callable[[], bool]) -> None:
        self.app = app
        self._observe = observe
        self._is_draining = is_draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.monotonic()
        status = 500
        is_noted = False
        state = scope.setdefault("state", {})

        def note() -> None:
            nonlocal is_noted
            if not is_noted:
                is_noted = True
                self._note(scope, status, state, time.monotonic() - started)

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._is_draining():
                    MutableHeaders(scope=message)["connection"] = "close"
            elif not message.get("more_body", False):
                note()  # before the client can know, so that it finds itself counted
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        finally:
            note()

    def _note(self, scope: Scope, status: int, state: dict[str, str | None], seconds: float) -> None:
        outcome = state.get("outcome") or outcome_of(status)
        if scope["path"] == "/generate":
            self._observe("/generate", state.get("adapter", UNKNOWN), outcome, seconds)
        level = logging.DEBUG if scope["path"].startswith(QUIET) and status != 500 else logging.INFO
        log(
            level,
            "request",
            method=scope["method"][:20],
            path=scope["path"][:200],
            status=status,
            outcome=outcome,
            adapter=state.get("adapter"),
            duration_seconds=round(seconds, 4),
            **{key: value for key, value in state.items() if key.endswith("_tokens")},
        )


class Defects:
    """Turns an exception that nobody expected into a 500, inside of what gives ids, logs and counts.

    Starlette's own handler stands outside of every other middleware, so its response would have no request id.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_started = False

        async def send_and_note(message: Message) -> None:
            nonlocal is_started
            is_started = True
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        except Exception as error:
            if is_started:
                raise  # the server cuts the connection, which is all that can be said now
            await render(as_service_error(error))(scope, receive, send)


class BodyLimit:
    """Refuses a body over the limit before it is read whole; routes see `BodyTooLarge` when they read it."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        is_too_large = declared.isdigit() and int(declared[:20]) > self._max_bytes
        received = 0

        async def receive_bounded() -> Message:
            nonlocal received
            if is_too_large:
                raise self._refusal(declared)
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise self._refusal("more")
            return message

        await self.app(scope, receive_bounded, send)

    def _refusal(self, size: str) -> BodyTooLarge:
        return BodyTooLarge(
            f"the body has {size[:20]} bytes, the limit is {self._max_bytes} (MINICPM_MAX_BODY_BYTES); "
            "send fewer or smaller pictures"
        )


def outcome_of(status: int) -> str:
    """Sort a status into the outcomes that metrics count."""
    if status < 400:
        return "ok"
    if status == 429:
        return "overloaded"
    if status == 499:
        return "cancelled"
    if status == 503:
        return "refused"
    return "client_error" if status < 500 else "server_error"
