"""`python -m service` is the `minicpm-service` command.

Knows no verb.
"""

import os
import sys
from typing import NoReturn

from service.cli import main


def run() -> NoReturn:
    """Run the command line and end the process at once: taking large tables apart would take another second."""
    status = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:  # the reader has left
        status = status or 1
    if "service.engine.loading" in sys.modules:  # devices and threads want an orderly end
        sys.exit(status)
    os._exit(status)


if __name__ == "__main__":
    run()
