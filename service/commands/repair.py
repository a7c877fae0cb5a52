"""`repair`: write a corrected copy of a folder, with a record of every change; or fold an adapter into a new base.

Knows no correction.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from service.commands import CONSISTENT, COULD_NOT_RUN, INCONSISTENT

if TYPE_CHECKING:
    from service.repair.repairing import Repaired

RECORD = "repair.json"


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
        help="give an adapter's untrained rows the mean of their pieces as a start; the audit goes on warning of them",
    )
    repair.set_defaults(run=_repair)


def _repair(known: argparse.Namespace, _: list[str]) -> int:
    from service.engine.load_report import adopt_transformers
    from service.errors import CheckpointError

    output: Path = known.output
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        print(f"refusing to write into {output}: it exists and is not an empty folder", file=sys.stderr)
        return COULD_NOT_RUN
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        adopt_transformers()
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as temporary:
            copy = Path(temporary) / "copy"
            status = _fold(known, copy) if known.fold else _correct(known, copy)
            if copy.is_dir():
                if output.exists():
                    output.rmdir()
                shutil.move(copy, output)
                print(f"wrote {output}")
            return status
    except CheckpointError as error:
        print(error.detail, file=sys.stderr)
    except OSError as error:
        print(f"{output} cannot be written: {error.strerror or error}", file=sys.stderr)
    return COULD_NOT_RUN


def _correct(known: argparse.Namespace, copy: Path) -> int:
    from service.checkpoint.locating import locate
    from service.repair.repairing import record, repair_adapter, repair_model
    from service.repair.retraining import advice

    folder = locate(known.folder)
    if (folder.folder / "adapter_config.json").is_file() and not (folder.folder / "config.json").is_file():
        if known.base is None:
            print("an adapter is repaired for its base: add --base BASE", file=sys.stderr)
            return COULD_NOT_RUN
        repaired = repair_adapter(folder, locate(known.base), copy, is_starting_rows=known.initialise_rows)
    else:
        repaired = repair_model(folder, locate(known.base) if known.base else None, copy)
    fingerprints = {name: one.fingerprint for name, one in repaired.before.subjects.items()}
    (copy / RECORD).write_text(
        json.dumps(record(repaired, fingerprints), ensure_ascii=False, indent=2, default=str) + "\n", encoding="utf-8"
    )
    _show(repaired)
    for line in advice(repaired.remaining, is_tied=repaired.is_tied):
        print(line)
    return INCONSISTENT if repaired.remaining else CONSISTENT


def _show(repaired: "Repaired") -> None:
    print(f"before: {repaired.before.overall.value}; after: {repaired.after.overall.value}")
    for one in repaired.changes:
        print(f"changed {one.file}: {one.what} -> {str(one.new)[:100]}  ({one.reason})")
    if not repaired.changes:
        print("nothing could be corrected")


def _fold(known: argparse.Namespace, copy: Path) -> int:
    from service.audit.judging import audit
    from service.checkpoint.locating import Location, locate
    from service.checkpoint.reading import read_checkpoint
    from service.domain.judgement import Verdict
    from service.repair.folding import fold

    if known.base is None:
        print("--fold writes into a copy of the base: add --base BASE", file=sys.stderr)
        return COULD_NOT_RUN
    base, adapter = locate(known.base), locate(known.folder)
    facts = read_checkpoint(base, {"adapter": adapter}).adapters["adapter"]
    copy.mkdir()
    changes = fold(base.folder, adapter.folder, facts, copy)
    print(f"folded {len(changes)} tensor(s) into the new base; serve both together")
    after = audit(read_checkpoint(Location(copy / "base", "base"), {"adapter": Location(copy / "adapter", "adapter")}))
    return CONSISTENT if after.overall is Verdict.CONSISTENT else INCONSISTENT
