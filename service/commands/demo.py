"""`demo`: write the demo checkpoints and their adapters.

Knows no file of it.
"""

import argparse
import sys
from pathlib import Path

from service.commands import COULD_NOT_RUN


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb and its arguments."""
    demo = verbs.add_parser(
        "demo",
        help="write the demo checkpoints and their adapters",
        description="Write base, merged and adapters, and below minicpmv4_5 a base and an adapter of MiniCPM-V 4.5.",
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
    output = known.output
    print(f"wrote {output}/base, {output}/merged, {output}/adapters and {output}/minicpmv4_5")
    return 0
