"""Runs the application under uvicorn and ends it in order: drain, then stop.

Knows no route.
"""

import asyncio
import logging
import os
import socket
import sys
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.admission import Admission
from service.lifecycle import Lifecycle

POLL_SECONDS = 0.05
STREAM_END_SECONDS = 2
"""For the last event of answers that were cut off."""
KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep an idle connection, so that none sends a request into one that is being closed."""


class Server(uvicorn.Server):
    """A uvicorn server that goes on answering probes and refusals while it drains.

    The first SIGTERM or SIGINT drains: readiness turns 503, new jobs are refused, jobs in flight finish within
    `drain_seconds`, the rest ends with an error event; then the process exits with status 0. A second one stops now.
    """

    def __init__(
        self, config: uvicorn.Config, lifecycle: Lifecycle, admission: Admission, drain_seconds: float
    ) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._admission = admission
        self._drain_seconds = drain_seconds
        self._is_draining = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain_task: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal; not calling the original keeps uvicorn from raising it again after a clean end."""
        self.end()

    def end(self) -> None:
        """Drain; on the second call, stop now. May be called from any thread."""
        if self._is_draining or self._loop is None:
            self.should_exit = self.force_exit = True
            return
        self._is_draining = True
        self._loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        self._drain_task = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        self._lifecycle.drain()
        ends_at = time.monotonic() + self._drain_seconds
        while self._admission.num_inflight and time.monotonic() < ends_at:  # noqa: ASYNC110 - short, and once
            await asyncio.sleep(POLL_SECONDS)
        self._admission.cancel_all()
        self.should_exit = True


def why_closed(host: str, port: int) -> str:
    """Say why a port cannot be opened, and what to do; empty if it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            return ""
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno is not None and not isinstance(error, socket.gaierror):
            why = os.strerror(error.errno)  # `create_server` adds the address, which stands in the message already
        return f"port {port} on {host} cannot be opened ({why}): end what has it, or set MINICPM_PORT (--port)"


def serve(app: FastAPI, host: str, port: int, drain_seconds: float) -> int:
    """Serve until a signal; return the exit status."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STREAM_END_SECONDS,
    )
    server = Server(config, app.state.lifecycle, app.state.admission, drain_seconds)
    app.state.end = server.end
    server.run()
    status = 0 if server.started else 1
    if server.force_exit:
        # The engine's thread may be in the middle of a step, which an orderly end of the interpreter could crash.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(status)
    return status
