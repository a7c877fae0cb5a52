"""Check of a merged folder: did merging write what adapter and origin add up to.

Knows numbers only; they are computed where the folders are read.
"""

from collections.abc import Iterator
from statistics import median

from service.audit.check import BaseView, Check, Outcome, fatal, note, warning
from service.domain.facts import MergeFacts, TensorMerge

MARGIN = 0.02
ROUNDING_FACTOR = 3.0
"""Merging in the stored type adds up several roundings; more is another error."""
MUCH_ROUNDING = 0.5
"""Share of an update that rounding may blur before answers suffer."""
MAX_FOREIGN = 1e-3
SHOWN = 5
AGAIN = "Merge again in float32: minicpm-service merge BASE ADAPTER --output DIR."
WHY = """\
A merge adds `alpha / r * B A` to each weight that the adapter targets and replaces what `modules_to_save` holds.
Afterwards nothing says what was merged, or whether it was: a wrong key prefix merges nothing, a second run merges
twice, a tool that ignores `use_rslora` or `alpha_pattern` scales wrongly, and bfloat16 swallows updates that are small
beside the weight (MiniCPM-V#502). All of it is a computation on files: for every targeted tensor the expected update is
set against what the folder differs from its origin by."""


def base_merge(view: BaseView) -> Iterator[Outcome]:
    """Compare every targeted tensor with what merging must have written."""
    merge = view.merge
    if merge is None:
        return
    yield from _everything_was_compared(merge)
    if view.origin and merge.uncomputed and not merge.targets and not view.origin.changed:
        yield fatal(
            f"all {view.origin.num_equal} tensors are the origin's, though the adapter changes some",
            {"equal": view.origin.num_equal},
            "Nothing was merged: every answer is the origin's.",
            AGAIN,
        )
    real = {name: one for name, one in merge.targets.items() if one.expected > 0}
    bad = {name: one for name, one in merge.targets.items() if one.residual > ROUNDING_FACTOR * one.rounding + MARGIN}
    if bad:
        yield _wrong(bad, real)
    elif real and median(one.rounding for one in real.values()) > MUCH_ROUNDING:
        yield warning(
            f"rounding blurs the update by {100 * median(one.rounding for one in real.values()):.0f} % in the middle "
            f"of {len(real)} tensors",
            {"tensors": {name: round(one.rounding, 3) for name, one in list(real.items())[:50]}},
            "The stored type is too coarse for so small an update: the adapter's effect is partly lost.",
            "Save the merged model in float16 or float32, or serve the adapter unmerged.",
        )
    foreign = {name: one for name, one in merge.foreign.items() if one > MAX_FOREIGN}
    if foreign:
        name, relative = max(foreign.items(), key=lambda item: item[1])
        yield fatal(
            f"{len(foreign)} tensor(s) differ from the origin's though the adapter does not touch them, most {name}: "
            f"by {100 * relative:.2g} %",
            {"tensors": dict(list(foreign.items())[:50]), "count": len(foreign)},
            "Something else was merged as well, or the origin is another one.",
            AGAIN,
        )


def _everything_was_compared(merge: MergeFacts) -> Iterator[Outcome]:
    if merge.adapter.problems:
        first = merge.adapter.problems[0]
        yield fatal(
            f"the adapter's {first.file} {first.problem}",
            {"file": first.file},
            "What merging should have written cannot be computed.",
            "Copy the adapter again from where it was trained.",
        )
    if merge.unmatched:
        yield fatal(
            f"the adapter changes {len(merge.unmatched)} module(s) that the origin does not have, first "
            f"{merge.unmatched[0]}",
            {"modules": list(merge.unmatched)[:50], "count": len(merge.unmatched)},
            "Their training cannot be in the folder.",
            "Check that the adapter was trained on this base; rename its keys with minicpm-service repair.",
        )
    if merge.uncomputed:
        module, reason = next(iter(merge.uncomputed.items()))
        yield note(
            f"{len(merge.uncomputed)} module(s) were not compared, first {module}: {reason}",
            {"modules": dict(merge.uncomputed)},
            "A wrong merge of these would not be seen here.",
            "Prove the merge by logits instead: minicpm-service merge does so.",
        )


def _wrong(bad: dict[str, TensorMerge], real: dict[str, TensorMerge]) -> Outcome:
    name, worst = max(bad.items(), key=lambda item: item[1].residual)
    ratios = [one.ratio for one in real.values()]
    middle = median(ratios) if ratios else 0.0
    is_uniform = bool(ratios) and max(ratios) - min(ratios) < 0.1 * max(abs(middle), 0.1)
    if not any(one.measured for one in bad.values()):
        what = "nothing was merged into" if len(bad) == len(real) else "the update is missing from"
    elif is_uniform and len(bad) == len(real):
        what = f"the update was multiplied by {middle:.2f} in"
    else:
        what = "the update is not what the adapter says in"
    return fatal(
        f"{what} {len(bad)} of {len(real)} targeted tensors, worst {name}: off by {100 * worst.residual:.0f} % of it",
        {
            "tensors": {
                name: {
                    "expected": one.expected,
                    "measured": one.measured,
                    "residual": one.residual,
                    "rounding": one.rounding,
                    "ratio": one.ratio,
                }
                for name, one in list(bad.items())[:50]
            },
            "count": len(bad),
            "targets": len(real),
        },
        "Answers are not those of the adapter: they lie between it and the base, or beyond both.",
        AGAIN,
    )


CHECK = Check("merge", "The merged weights are what base and adapter add up to", base_merge, needs_merge=True, why=WHY)
