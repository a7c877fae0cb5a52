"""`audit`: judge folders without loading their weights.

Knows no check.
"""

import argparse
import sys

from service.commands import CONSISTENT, COULD_NOT_RUN, INCONSISTENT


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb and its arguments."""
    audit = verbs.add_parser(
        "audit",
        help="judge a folder without loading its weights",
        description="Exit status: 0 consistent, 1 not, 2 could not run.",
    )
    audit.add_argument("model", metavar="MODEL", help="base or merged model: a folder or hub id@commit")
    audit.add_argument(
        "--adapter", action="append", default=[], metavar="NAME=DIR", help="an adapter to judge with it; repeatable"
    )
    audit.add_argument("--base", metavar="BASE", help="the folder that MODEL was tuned from, to compare with")
    audit.add_argument(
        "--merged-from",
        nargs=2,
        metavar=("BASE", "ADAPTER"),
        help="what MODEL is said to be the merge of; computes the merge and compares",
    )
    audit.add_argument(
        "--corpus", metavar="FILE", help="conversations (JSON lines) that say how often tokens occur in your traffic"
    )
    audit.add_argument("--format", choices=("text", "json"), default="text")
    audit.add_argument("--policy", choices=("strict", "default", "permissive"), default="default")
    audit.set_defaults(run=_audit)


def _audit(known: argparse.Namespace, _: list[str]) -> int:
    import json
    import shutil
    from pathlib import Path

    from service.audit.judging import audit
    from service.audit.rendering import report_json, report_text
    from service.checkpoint.locating import locate
    from service.checkpoint.reading import read_checkpoint
    from service.commands.haste import in_haste
    from service.domain.judgement import Policy, Verdict
    from service.errors import CheckpointError

    pairs = [one.partition("=") for one in known.adapter]
    if bad := [name for name, separator, _ in pairs if not separator]:
        print(f"--adapter takes NAME=DIR, not {bad[0]!r}", file=sys.stderr)
        return COULD_NOT_RUN
    try:
        with in_haste():
            facts = read_checkpoint(
                locate(known.model),
                {name: locate(place) for name, _, place in pairs},
                origin=locate(known.base) if known.base else None,
                merged_from=(locate(known.merged_from[0]), locate(known.merged_from[1])) if known.merged_from else None,
                corpus=Path(known.corpus) if known.corpus else None,
            )
    except CheckpointError as error:
        print(error.detail, file=sys.stderr)
        return COULD_NOT_RUN
    report = audit(facts, policy=Policy(known.policy))
    if known.format == "json":
        print(json.dumps(report_json(report), ensure_ascii=False, indent=2))
    else:
        print(report_text(report, shutil.get_terminal_size((100, 24)).columns))
    return CONSISTENT if report.overall is Verdict.CONSISTENT else INCONSISTENT
