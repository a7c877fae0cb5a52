"""The command line: serve, audit, demo.

Imports what a verb needs only when it runs, so that `--help` answers at once.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CONSISTENT, INCONSISTENT, COULD_NOT_RUN = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb and return its exit status."""
    parser = _parser()
    known, rest = parser.parse_known_args(arguments)
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
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    serve = verbs.add_parser(
        "serve",
        help="run the service",
        description="Run the service. Every setting is a flag: --port 9000 is MINICPM_PORT=9000.",
        add_help=False,
    )
    serve.set_defaults(run=_serve)
    audit = verbs.add_parser(
        "audit",
        help="judge a folder without loading its weights",
        description="Exit status: 0 consistent, 1 not, 2 could not run.",
    )
    audit.add_argument("model", metavar="MODEL", help="base or merged model: a folder or hub id@commit")
    audit.add_argument(
        "--adapter", action="append", default=[], metavar="NAME=DIR", help="an adapter to judge with it; repeatable"
    )
    audit.add_argument("--format", choices=("text", "json"), default="text")
    audit.add_argument("--policy", choices=("strict", "default", "permissive"), default="default")
    audit.set_defaults(run=_audit)
    demo = verbs.add_parser(
        "demo", help="write the demo checkpoint and its adapters", description="Write base, merged and adapters."
    )
    demo.add_argument("--output", type=Path, required=True, metavar="DIR", help="a folder that is new or empty")
    demo.set_defaults(run=_demo)
    return parser


def _serve(_: argparse.Namespace, flags: list[str]) -> int:
    import logging
    import os
    import signal

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the server takes over; as PID 1 there is no default

    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from service import logs
    from service.settings import PREFIX, Settings, unknown_variables

    for name, value in vars(_settings_parser(Settings.model_fields).parse_args(flags)).items():
        if value is not None:
            os.environ[PREFIX + name.upper()] = value  # a flag is its variable, set from the command line
    try:
        settings = Settings()
    except (ValidationError, SettingsError, OSError) as error:
        print(f"the settings cannot be used:\n{_explain(error)}", file=sys.stderr)
        return COULD_NOT_RUN
    logs.configure(settings.log_level)
    logs.log(logging.INFO, "settings", **settings.masked())
    for name, nearest in unknown_variables(os.environ).items():
        logs.log(logging.WARNING, f"{name} sets nothing" + (f"; did you mean {nearest}?" if nearest else ""))

    from service.app import create_app
    from service.server import serve

    status = 0

    def on_rejected() -> None:
        nonlocal status
        if settings.on_rejected == "exit":
            status = INCONSISTENT
            app.state.end()

    app = create_app(settings, on_rejected)
    served = serve(app, settings.host, settings.port, settings.drain_seconds)
    return status or served


def _settings_parser(fields: dict[str, Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minicpm-service serve",
        description="Run the service. A flag wins over its MINICPM_ variable, that over .env, that over the default.",
    )
    for name, field in fields.items():
        parser.add_argument(
            "--" + name.replace("_", "-"),
            dest=name,
            metavar="VALUE",
            help=f"{field.description} [{field.get_default(call_default_factory=True)!r}]".replace("%", "%%"),
        )
    return parser


def _explain(error: Exception) -> str:
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        named = re.search(r'field "(\w+)"', str(error))
        return f"  MINICPM_{named[1].upper()} is not JSON: {error.__cause__}" if named else f"  {error}"
    return "\n".join(
        f"  MINICPM_{'.'.join(map(str, one['loc'])).upper() or '*'}: {one['msg']}"
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    )


def _audit(known: argparse.Namespace, _: list[str]) -> int:
    import json
    import shutil

    from service.audit.judging import audit
    from service.audit.rendering import report_json, report_text
    from service.checkpoint.locating import locate
    from service.checkpoint.reading import read_checkpoint
    from service.domain.judgement import Policy, Verdict
    from service.errors import CheckpointError

    pairs = [one.partition("=") for one in known.adapter]
    if bad := [name for name, separator, _ in pairs if not separator]:
        print(f"--adapter takes NAME=DIR, not {bad[0]!r}", file=sys.stderr)
        return COULD_NOT_RUN
    try:
        facts = read_checkpoint(locate(known.model), {name: locate(place) for name, _, place in pairs})
    except CheckpointError as error:
        print(error.detail, file=sys.stderr)
        return COULD_NOT_RUN
    report = audit(facts, policy=Policy(known.policy))
    if known.format == "json":
        print(json.dumps(report_json(report), ensure_ascii=False, indent=2))
    else:
        print(report_text(report, shutil.get_terminal_size((100, 24)).columns))
    return CONSISTENT if report.overall is Verdict.CONSISTENT else INCONSISTENT


def _demo(known: argparse.Namespace, _: list[str]) -> int:
    from service.demo import write_demo

    try:
        write_demo(known.output)
    except OSError as error:
        print(error, file=sys.stderr)
        return COULD_NOT_RUN
    print(f"wrote {known.output}/base, {known.output}/merged and {known.output}/adapters")
    return 0
