"""`merge`: write a base with an adapter merged into it, proved equal to the adapter mounted.

Knows no tensor.
"""

import argparse
import shutil
import sys
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
    from service.commands.writing import Refused, new_folder, reason_of
    from service.errors import CheckpointError

    try:
        _refuse_exchanged(known.base, known.adapter)
        with new_folder(known.output, known.base, known.adapter) as folder:
            status = _merge_into(known, folder)
        if known.output.is_dir() and any(known.output.iterdir()):
            print(f"wrote {known.output}")
        return status
    except Refused as error:
        print(error, file=sys.stderr)
    except CheckpointError as error:
        print(error.detail, file=sys.stderr)
    except OSError as error:
        print(f"{known.output} cannot be written: {reason_of(error)}", file=sys.stderr)
    return COULD_NOT_RUN


def _refuse_exchanged(base: str, adapter: str) -> None:
    """Refuse an adapter in the place of the base, and a model in that of the adapter.

    Raises:
        Refused: With both names.
    """
    from service.commands.writing import Refused

    first, second = Path(base), Path(adapter)
    if _is_adapter(first) and _is_model(second):
        raise Refused(
            f"{first.name} is an adapter and {second.name} a model: exchange them: "
            f"minicpm-service merge {second.name} {first.name}"
        )
    if _is_adapter(first):
        raise Refused(f"{first.name} is an adapter, not a model; name the model that it was trained on before it")
    if _is_model(second):
        raise Refused(f"{second.name} is a model, not an adapter: nothing of it can be merged into {first.name}")


def _is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file()


def _merge_into(known: argparse.Namespace, folder: Path) -> int:
    from service.audit.judging import audit
    from service.audit.reports.text import report_text
    from service.checkpoint.locating import locate
    from service.checkpoint.reading import read_checkpoint
    from service.domain.judgement import Verdict, adapter_subject
    from service.engine.load_report import adopt_transformers, caught_warnings

    adopt_transformers()
    base, adapter = locate(known.base), locate(known.adapter)
    with caught_warnings():
        report = audit(read_checkpoint(base, {"adapter": adapter}))
    if report.overall is Verdict.INCONSISTENT and not known.force:
        print(report_text(report))
        print("not merged: the audit refuses; repair it, or add --force", file=sys.stderr)
        return INCONSISTENT
    from service.engine.merging import merge_folders, write_record

    folder.mkdir()
    with caught_warnings():  # what libraries say while loading was judged above, or is no news
        proof = merge_folders(base.folder, adapter.folder, folder, known.dtype)
    sources = {
        "base": (base.name, report.subjects["base"].fingerprint),
        "adapter": (adapter.name, report.subjects[adapter_subject("adapter")].fingerprint),
    }
    write_record(folder, proof, sources, known.dtype)
    print(
        f"merged equals mounted: logits differ by {proof.merged_difference:.2g} (float32), the largest is "
        f"{proof.scale:.3g}; "
        f"the stored type moves logits by {proof.rounding_difference:.2g}, the likeliest tokens are "
        + ("the same" if proof.is_same_answer else "not all the same")
    )
    if not proof.is_proved and not known.force:
        print("the merged model is not the mounted adapter: nothing was written", file=sys.stderr)
        shutil.rmtree(folder)
        return INCONSISTENT
    return CONSISTENT if proof.is_proved else INCONSISTENT
