"""`merge`: write a base with an adapter merged into it, proved equal to the adapter mounted.

Knows no tensor.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from service.commands import CONSISTENT, COULD_NOT_RUN, INCONSISTENT


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb and its arguments."""
    merge = verbs.add_parser(
        "merge",
        help="merge an adapter into its base in float32, and prove the result",
        description="Exit status: 0 merged and proved, 1 refused or not equal, 2 could not run.",
    )
    merge.add_argument("base", metavar="BASE", help="a folder or hub id@commit")
    merge.add_argument("adapter", metavar="ADAPTER", help="the adapter's folder or hub id@commit")
    merge.add_argument("--output", type=Path, required=True, metavar="DIR", help="a folder that is new or empty")
    merge.add_argument(
        "--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto", help="auto: the base's own"
    )
    merge.add_argument(
        "--force", action="store_true", help="merge although the audit refuses, and keep what is not equal"
    )
    merge.set_defaults(run=_merge)


def _merge(known: argparse.Namespace, _: list[str]) -> int:
    from service.errors import CheckpointError

    output: Path = known.output
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        print(f"refusing to write into {output}: it exists and is not an empty folder", file=sys.stderr)
        return COULD_NOT_RUN
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as temporary:
            return _merge_into(known, Path(temporary))
    except CheckpointError as error:
        print(error.detail, file=sys.stderr)
    except OSError as error:
        print(f"{output} cannot be written: {error.strerror}", file=sys.stderr)
    return COULD_NOT_RUN


def _merge_into(known: argparse.Namespace, temporary: Path) -> int:
    from service.audit.judging import audit
    from service.audit.reports.text import report_text
    from service.checkpoint.locating import locate
    from service.checkpoint.reading import read_checkpoint
    from service.domain.judgement import Verdict, adapter_subject
    from service.engine.load_report import adopt_transformers, caught_warnings

    adopt_transformers()
    base, adapter = locate(known.base), locate(known.adapter)
    report = audit(read_checkpoint(base, {"adapter": adapter}))
    if report.overall is Verdict.INCONSISTENT and not known.force:
        print(report_text(report))
        print("not merged: the audit refuses; repair it, or add --force", file=sys.stderr)
        return INCONSISTENT
    from service.engine.merging import merge_folders, write_record

    with caught_warnings():  # what libraries say while loading was judged above, or is no news
        proof = merge_folders(base.folder, adapter.folder, temporary, known.dtype)
    fingerprints = {
        "base": report.subjects["base"].fingerprint,
        "adapter": report.subjects[adapter_subject("adapter")].fingerprint,
    }
    write_record(temporary, proof, fingerprints, known.dtype)
    print(
        f"merged equals mounted within {proof.merged_difference:.2g} of {proof.scale:.3g} (float32); "
        f"the stored type moves logits by {proof.rounding_difference:.2g}, the likeliest tokens are "
        + ("the same" if proof.is_same_answer else "not all the same")
    )
    if not proof.is_proved and not known.force:
        print("the merged model is not the mounted adapter: nothing was written", file=sys.stderr)
        return INCONSISTENT
    _publish(temporary, known.output)
    print(f"wrote {known.output}")
    return CONSISTENT if proof.is_proved else INCONSISTENT


def _publish(temporary: Path, output: Path) -> None:
    """Give the finished folder its name; until then nothing stands there."""
    if output.exists():
        output.rmdir()
    finished = output.with_name(f".{output.name}.finished")
    shutil.move(temporary, finished)
    temporary.mkdir()  # its context removes it
    finished.chmod(0o755)
    finished.rename(output)
