"""`demo`: write the demo checkpoint and its adapters.

Knows no file of it.
"""

import argparse
import sys
from pathlib import Path

from service.commands import COULD_NOT_RUN


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb and its arguments."""
    demo = verbs.add_parser(
        "demo", help="write the demo checkpoint and its adapters", description="Write base, merged and adapters."
    )
    demo.add_argument("--output", type=Path, required=True, metavar="DIR", help="a folder that is new or empty")
    demo.set_defaults(run=_demo)


def _demo(known: argparse.Namespace, _: list[str]) -> int:
    from service.demo import write_demo

    try:
        write_demo(known.output)
    except OSError as error:
        print(error, file=sys.stderr)
        return COULD_NOT_RUN
    print(f"wrote {known.output}/base, {known.output}/merged and {known.output}/adapters")
    return 0
