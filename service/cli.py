"""The command line: finds the verb and runs it.

Knows no argument of any verb; each has a module in `service.commands`.
"""

import argparse
from collections.abc import Sequence

from service.commands import COULD_NOT_RUN, audit, demo, merge, record, repair, serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb and return its exit status."""
    parser = _parser()
    known, rest = parser.parse_known_args(arguments)
    if known.version:
        from importlib.metadata import version  # takes a while, and only this wants it

        print(f"minicpm-service {version('minicpm-service')}")
        return 0
    if known.verb is None:
        parser.print_help()
        return COULD_NOT_RUN
    if rest and known.verb != "serve":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    status: int = known.run(known, rest)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minicpm-service",
        description="Serve LoRA-tuned MiniCPM models, and refuse the ones whose tokenizer and embeddings do not agree.",
    )
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    for verb in (serve, audit, repair, merge, record, demo):
        verb.add(verbs)
    return parser
