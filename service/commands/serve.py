"""`serve`: run the service.

Knows how settings become flags, not what they mean.
"""

import argparse
import re
import sys
from typing import Any

from service.commands import COULD_NOT_RUN, INCONSISTENT

MAX_PROBLEMS = 40
MAX_ECHO_CHARACTERS = 4000
"""Of values that cannot be used, in what is printed about all of them."""


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb; its flags are the settings, read by a parser of their own."""
    serve = verbs.add_parser(
        "serve",
        help="run the service",
        description="Run the service. Every setting is a flag: --port 9000 is MINICPM_PORT=9000.",
        add_help=False,
    )
    serve.set_defaults(run=_serve)


def _serve(_: argparse.Namespace, flags: list[str]) -> int:
    import logging
    import os
    import signal

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the server takes over; as PID 1 there is no default

    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from service import logs
    from service.settings import PREFIX, Settings, given_variables, unknown_variables

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
    for name, nearest in unknown_variables(given_variables()).items():
        logs.log(logging.WARNING, f"{name} sets nothing" + (f"; did you mean {nearest}?" if nearest else ""))

    from service.app import create_app
    from service.server import serve, why_closed

    if why := why_closed(settings.host, settings.port):
        print(why, file=sys.stderr)
        return COULD_NOT_RUN
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
            help=f"{field.description}{_default(field)}".replace("%", "%%"),
        )
    return parser


def _default(field: Any) -> str:
    default = field.get_default(call_default_factory=True)
    return "" if default in (None, {}, ()) else f" [{default}]"


def _explain(error: Exception) -> str:
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        named = re.search(r'field "(\w+)"', str(error))
        return f"  {_not_json(named[1], error)}" if named else f"  {error}"
    from service.explaining import explain
    from service.settings import Settings

    problems = explain(error, Settings, MAX_ECHO_CHARACTERS, MAX_PROBLEMS)
    return "\n".join(f"  {_setting(place)}: {text}" if place else f"  {text}" for place, text in problems)


def _not_json(name: str, error: Exception) -> str:
    from service.settings import Settings

    field = Settings.model_fields.get(name)
    example = f"; write it like {field.examples[0]}" if field and field.examples else ""
    return f"MINICPM_{name.upper()} is not JSON: {error.__cause__}{example}"


def _setting(place: tuple[int | str, ...]) -> str:
    """Write a place as the variable, and what it is inside of the variable's JSON."""
    from service.settings import PREFIX

    name, *inside = [str(one) for one in place if one != "[key]"]
    return ".".join([PREFIX + name.upper(), *inside])
