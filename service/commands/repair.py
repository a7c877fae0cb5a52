"""`repair`: write a corrected copy of a folder, with a record of every change; or fold an adapter into a new base.

Knows no correction.
"""

import argparse
import json
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.commands import CONSISTENT, COULD_NOT_RUN, INCONSISTENT

if TYPE_CHECKING:
    from service.repair.change import Change
    from service.repair.repairing import Repaired

RECORD = "repair.json"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
OFFER = (
    "--initialise-rows gives the untrained input rows a start for training, the mean of their pieces: no trained token"
)
SHOWN, LONGEST = 3, 100
"""How many changes of one kind are printed, and how much of a value."""


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb and its arguments."""
    repair = verbs.add_parser(
        "repair",
        help="write a corrected copy of a folder",
        description="Exit status: 0 the copy is consistent, 1 something remains, 2 could not run.",
    )
    repair.add_argument("folder", metavar="DIR", help="a base, merged, or adapter folder; it is never changed")
    repair.add_argument("--base", metavar="BASE", help="what DIR was tuned from; needed for an adapter")
    repair.add_argument("--output", type=Path, required=True, metavar="DIR", help="a folder that is new or empty")
    repair.add_argument(
        "--fold",
        action="store_true",
        help="write an adapter's whole modules into a new base, and a plain LoRA beside it",
    )
    repair.add_argument(
        "--initialise-rows",
        action="store_true",
        help="give untrained input rows the mean of their pieces: a start for training, not a trained token",
    )
    repair.add_argument(
        "--lora-alpha",
        type=_alpha,
        metavar="N",
        help="lora_alpha of the training, for an adapter that lost adapter_config.json: its tensors tell all but that",
    )
    repair.set_defaults(run=_repair)


def _alpha(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be a positive number")
    return value


def _repair(known: argparse.Namespace, _: list[str]) -> int:
    from service.commands.writing import Refused, new_folder, reason_of
    from service.engine.load_report import adopt_transformers, caught_warnings
    from service.errors import CheckpointError

    try:
        _refuse(known)
        adopt_transformers()
        with new_folder(known.output, known.folder, known.base) as copy, caught_warnings():
            status, lines = _fold(known, copy) if known.fold else _correct(known, copy)
        print(*lines, f"wrote {known.output}", sep="\n")  # a reader that leaves early must not undo the repair
        return status
    except Refused as error:
        print(error, file=sys.stderr)
    except CheckpointError as error:
        print(error.detail, file=sys.stderr)
    except OSError as error:
        print(f"{known.output} cannot be written: {reason_of(error)}", file=sys.stderr)
    return COULD_NOT_RUN


def _refuse(known: argparse.Namespace) -> None:
    """Refuse what cannot be meant.

    Raises:
        Refused: The arguments do not go together.
    """
    from service.commands.writing import Refused

    is_adapter = _is_adapter(known.folder)
    if known.base and _is_adapter(known.base):
        raise Refused(f"--base takes the model that DIR was tuned from, and {Path(known.base).name} is an adapter")
    if is_adapter and known.base is None:
        why = "--fold writes into a copy of the base" if known.fold else "an adapter is repaired for its base"
        raise Refused(f"{why}: add --base BASE")
    flags = {"--fold": known.fold, "--initialise-rows": known.initialise_rows, "--lora-alpha": known.lora_alpha}
    for flag, is_given in flags.items():
        if is_given and not is_adapter and Path(known.folder).is_dir():
            raise Refused(f"{flag} is for adapters, and {Path(known.folder).name} is a model")
    if known.lora_alpha and _has_config(Path(known.folder) / ADAPTER_FILES[0]):
        raise Refused(
            "--lora-alpha is for an adapter that lost adapter_config.json, and this one has it: edit it there"
        )


def _has_config(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except (OSError, ValueError, RecursionError):
        return False


def _is_adapter(place: str) -> bool:
    """Say whether a folder is an adapter, even one that lost its config."""
    folder = Path(place)
    return not (folder / "config.json").is_file() and any((folder / name).is_file() for name in ADAPTER_FILES)


def _correct(known: argparse.Namespace, copy: Path) -> tuple[int, list[str]]:
    from service.checkpoint.locating import locate
    from service.domain.judgement import Verdict
    from service.repair.repairing import record, repair_adapter, repair_model
    from service.repair.retraining import advice

    folder = locate(known.folder)
    if _is_adapter(str(folder.folder)):
        repaired = repair_adapter(
            folder, locate(known.base), copy, is_starting_rows=known.initialise_rows, alpha=known.lora_alpha
        )
    else:
        repaired = repair_model(folder, locate(known.base) if known.base else None, copy)
    _write_record(copy, record(repaired))
    lines = [*_lines(repaired), *advice(repaired.remaining, is_tied=repaired.is_tied)]
    if repaired.startable:
        lines.append(OFFER)
    lines += [f"warning, {one.subject}, {one.check}: {one.message}" for one in repaired.doubts]
    if known.base is None and any(one.check != "served_model" for one in repaired.remaining):
        lines.append("name what the folder was tuned from with --base BASE: lost files are restored from there")
    return CONSISTENT if repaired.after.overall is Verdict.CONSISTENT else INCONSISTENT, lines


def _write_record(folder: Path, document: dict[str, object]) -> None:
    text = json.dumps(document, ensure_ascii=False, indent=2, default=str)
    (folder / RECORD).write_text(text.encode("utf-8", "backslashreplace").decode() + "\n", encoding="utf-8")


def _lines(repaired: "Repaired") -> list[str]:
    """Name the changes; of many of one kind the first, as the record has them all."""
    lines = [f"before: {repaired.before.overall.value}; after: {repaired.after.overall.value}"]
    groups: dict[tuple[str, str], list[Change]] = {}
    for one in repaired.changes:
        groups.setdefault((one.file, one.reason), []).append(one)
    for (file, reason), changes in groups.items():
        for one in changes[:SHOWN]:
            lines.append(f"changed {file}: {one.what}: {_short(one.old)} -> {_short(one.new)}  ({reason})")
        if len(changes) > SHOWN:
            lines.append(f"changed {file}: and {len(changes) - SHOWN} more likewise, see {RECORD}")
    if repaired.initialised:
        named = ", ".join(f"{text} (id {one})" for one, text in sorted(repaired.initialised.items())[:SHOWN])
        more = f" and {len(repaired.initialised) - SHOWN} more" if len(repaired.initialised) > SHOWN else ""
        lines.append(f"{named}{more}: a start for training, not trained: train before serving, as answers may be worse")
    lines += [f"not corrected: {one}" for one in repaired.declined]
    lines += [f"uncertain: {one}" for one in repaired.uncertain]
    if repaired.proposed:
        lines += ["adapter_config.json, to be completed:", *_spelled(repaired.proposed)]
    if not repaired.changes:
        lines.append("nothing could be corrected" if repaired.remaining else "nothing had to be corrected")
    return lines


def _spelled(config: Mapping[str, Any]) -> list[str]:
    """Spell a JSON object with one key a line, however long its lists are."""
    parts = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in config.items()]
    return ["{", *(f"{one}," for one in parts[:-1]), parts[-1], "}"]


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _fold(known: argparse.Namespace, copy: Path) -> tuple[int, list[str]]:
    from service.audit.judging import audit
    from service.checkpoint.locating import Location, locate
    from service.checkpoint.reading import read_checkpoint
    from service.domain.judgement import Verdict
    from service.repair.folded import prove_fold
    from service.repair.folding import fold
    from service.repair.repairing import Repaired, record
    from service.repair.retraining import advice

    base, adapter = locate(known.base), locate(known.folder)
    facts = read_checkpoint(base, {"adapter": adapter})
    copy.mkdir()
    own = facts.adapters["adapter"]
    changes = fold(base.folder, adapter.folder, own, facts.base, copy, name=str(known.output / "base"))
    proof = prove_fold(base.folder, adapter.folder, own.trainable_tokens, copy)
    parts = Location(copy / "base", "base"), Location(copy / "adapter", "adapter")
    after = audit(read_checkpoint(parts[0], {"adapter": parts[1]}))
    repaired = Repaired(tuple(changes), audit(facts), after, is_tied=facts.base.head is None)
    _write_record(copy, record(repaired))
    lines = [
        f"folded {proof.num_folded} tensor(s) of the adapter into the new base; its {proof.num_factors} factors are a "
        "plain LoRA",
        f"read back: the {proof.num_folded} hold the adapter's values{_rounded(proof.rounding)}, {proof.num_kept} "
        "others the base's, and the factors are unchanged",
        *_start(known.output, _name(adapter.name), max(own.ranks, default=0), is_native=facts.base.is_native),
        *advice(repaired.remaining, is_tied=repaired.is_tied),
    ]
    return CONSISTENT if after.overall is Verdict.CONSISTENT else INCONSISTENT, lines


def _rounded(by: float) -> str:
    return f" (moved by {by:.2g} at most in the type of the base)" if by else ""


def _name(folder: str) -> str:
    """Return a name that settings take for an adapter."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", folder.rpartition("/")[2]).lstrip("._-")[:64] or "adapter"


def _start(output: Path, name: str, rank: int, *, is_native: bool) -> list[str]:
    """Say with which settings the two folders are served together."""
    from service.audit.checks.other_servers import rank_flag

    base, adapter = output / "base", output / "adapter"
    mounted = shlex.quote(json.dumps({name: str(adapter)}))
    code = "" if is_native else "--trust-remote-code"
    flags = " ".join(filter(None, (code, "--enable-lora", rank_flag(rank), "--lora-modules")))
    return [
        f"new base:   {base}",
        f"plain LoRA: {adapter}",
        f"serve both: MINICPM_MODEL={shlex.quote(str(base))} MINICPM_ADAPTERS={mounted} minicpm-service serve",
        f"with vLLM:  vllm serve {shlex.quote(str(base))} {flags} {shlex.quote(f'{name}={adapter}')}",
    ]
