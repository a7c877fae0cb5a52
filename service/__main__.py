"""`python -m service` is the `minicpm-service` command.

Knows no verb.
"""

import contextlib
import errno
import os
import sys
from pathlib import Path
from typing import NoReturn

from service.cli import main
from service.commands import COULD_NOT_RUN

INTERRUPTED = 130
"""As a shell reports a command that Ctrl-C ended."""

OUTPUT_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


def run() -> NoReturn:
    """Run the command line and end the process at once: taking large tables apart would take another second."""
    _prepare_output()
    try:
        status = main()
        sys.stdout.flush()
        sys.stderr.flush()
    except KeyboardInterrupt:
        _say("interrupted: nothing was written")
        status = INTERRUPTED
    except BrokenPipeError:  # the reader has left, as `head` does
        status = COULD_NOT_RUN
        _close_output()
    except OSError as error:
        if error.errno not in OUTPUT_ERRORS or error.filename is not None:
            raise
        _say(f"standard output cannot be written: {error.strerror}")
        status = COULD_NOT_RUN
        _close_output()
    if "service.engine.loading" in sys.modules:  # devices and threads want an orderly end
        sys.exit(status)
    os._exit(status)


def _prepare_output() -> None:
    """Print whatever the terminal's encoding, and also where the caller has closed the output."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open until the end
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _close_output() -> None:
    """Let nothing that is still in the buffer fail once more when the interpreter ends."""
    sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open until the end


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr)


if __name__ == "__main__":
    run()
