"""Judges what became of an origin's weights in a tuned folder.

Knows no settings, and no changes that several tensors of a layer share: those are `same_function.py`'s matter.
"""

import math
from collections.abc import Callable, Iterator

from service.audit.changes import UNRELATED, Changes, changes_of, taken_over
from service.audit.check import Outcome, fatal, warning
from service.audit.checks.cut_weights import cut_weights
from service.audit.checks.rearranged import rearranged
from service.audit.checks.same_function import uncancelled
from service.domain.facts import BaseFacts, OriginFacts

SHOWN = 5
MOVED = 0.2
"""Share of a matrix in rows that have nothing in common with the origin's; training turns all rows a little."""
FAR = 0.3
"""Median turn beyond which a folder is hardly a tuned version of its origin."""
SCALED_BY, SCALED_TURN = 1.8, 0.2
"""A matrix that is so many times as long or as short and points where it did was multiplied, not trained."""
MIN_RESET = 16
"""Values that are the same by no chance."""
Rule = Callable[[Changes], Iterator[Outcome]]


def tuned_weights(origin: OriginFacts, base: BaseFacts) -> Iterator[Outcome]:
    """Apply all rules; of a folder that has another origin not those that look for single tensors."""
    changes = changes_of(origin, base)
    for rule in (*ALWAYS, _other_origin) if changes.is_of_another_origin else (*ALWAYS, *IF_RELATED):
        yield from rule(changes)


def _not_finite(changes: Changes) -> Iterator[Outcome]:
    changed = changes.origin.changed
    broken = [name for name, one in changed.items() if not one.is_finite and name not in changes.vocabulary]
    if broken and not changes.base.inner.nonfinite:  # else finite_weights says so
        yield fatal(
            f"{len(broken)} tensor(s) hold NaN or infinity, first {broken[0]}",
            {"tensors": broken[:50], "count": len(broken)},
            "NaN spreads through the whole answer.",
            "Use an earlier checkpoint; train in bfloat16 rather than float16.",
        )


def _rearranged(changes: Changes) -> Iterator[Outcome]:
    found = {name: one.rearranged for name, one in changes.origin.changed.items() if one.rearranged}
    yield from rearranged(found, "the origin's")


def _cut(changes: Changes) -> Iterator[Outcome]:
    yield from cut_weights(changes.base, changes.matrices)


def _reset(changes: Changes) -> Iterator[Outcome]:
    """Norms and biases are too small to resemble anything, but training leaves none with a single value."""
    tensors = changes.base.tensors
    found = [
        name
        for name, one in changes.origin.changed.items()
        if one.is_reset and not changes.is_telling(name) and name in tensors and name not in changes.vocabulary
    ]
    found = [name for name in found if name not in taken_over(changes.origin)]  # what reads them took it
    if found := [name for name in found if math.prod(tensors[name].shape) >= MIN_RESET]:
        yield fatal(
            f"{len(found)} tensor(s) hold the same number throughout, where the origin's are trained: "
            + ", ".join(found[:SHOWN]),
            {"tensors": found[:50], "count": len(found)},
            "They are as a library makes them before it reads a file: what they knew is lost, and layers work at "
            "another scale.",
            "Copy these tensors from the base model's files.",
        )


def _reshaped(changes: Changes) -> Iterator[Outcome]:
    inner = {name: one for name, one in changes.origin.reshaped.items() if name not in changes.vocabulary}
    if inner and not changes.base.problems:
        name, (old, new) = next(iter(inner.items()))
        yield fatal(
            f"{len(inner)} tensor(s) have other shapes than the origin's, first {name}: {list(old)} became {list(new)}",
            {"tensors": {key: [list(one) for one in both] for key, both in list(inner.items())[:50]}},
            "Tuning changes no shape but those of vocabulary matrices: this is a model of another size.",
            "Name the base that was tuned.",
        )


def _other_origin(changes: Changes) -> Iterator[Outcome]:
    unrelated, total = changes.unrelated, changes.total
    yield fatal(
        f"{len(unrelated)} of {total} matrices have nothing in common with the origin's, first {unrelated[0]}",
        {"tensors": unrelated[:50], "count": len(unrelated), "matrices": total},
        "The folder was not tuned from this base: an adapter of the one does not fit the other.",
        "Name the base that was tuned (its id and revision are in adapter_config.json or the trainer's args).",
    )


def _made_up(changes: Changes) -> Iterator[Outcome]:
    matrices, unrelated = changes.uncut, changes.unrelated
    if not unrelated:
        return
    zero = [name for name in unrelated if matrices[name].turn == 1.0 and abs(matrices[name].relative - 1) < 1e-6]
    how = "are zero" if len(zero) == len(unrelated) else "have nothing in common with the origin's"
    yield fatal(
        f"{len(unrelated)} tensor(s) {how}, while the others resemble it: {', '.join(unrelated[:SHOWN])}",
        {"tensors": {name: round(matrices[name].turn, 4) for name in unrelated[:50]}, "count": len(unrelated)},
        "They were made up at random when the model was loaded for training or export, or tensors were swapped: the "
        "model works without what they knew.",
        "Copy these tensors from the base model's files, or from the training checkpoint if they were trained.",
    )


def _reordered(changes: Changes) -> Iterator[Outcome]:
    matrices = {name: one for name, one in changes.uncut.items() if name not in changes.vocabulary}
    moved = [name for name, one in matrices.items() if one.strange_share > MOVED and one.turn <= UNRELATED]
    if not moved:
        return
    first = moved[0]
    yield fatal(
        f"{len(moved)} tensor(s) have rows that have nothing in common with the origin's, though the whole resembles "
        f"it, first {first} ({matrices[first].strange_share:.0%} of it)",
        {"tensors": {name: round(matrices[name].strange_share, 4) for name in moved[:50]}, "count": len(moved)},
        "Rows were put in another order, or a part of a joined matrix was not filled in, as conversions between "
        "frameworks do: these layers compute something else.",
        "Convert again from the training checkpoint with the layout of this model, or copy these tensors from the base "
        "model's files if they were not trained.",
    )


def _turned_far(changes: Changes) -> Iterator[Outcome]:
    turns = sorted(one.turn for one in changes.uncut.values())
    far = turns[len(turns) // 2] if 2 * len(turns) > changes.total else 0.0
    if far > FAR and not changes.unrelated:
        yield warning(
            f"half of the {changes.total} matrices turned by more than {far:.2f} (1 minus cosine) from the origin's",
            {"median_turn": round(far, 4), "matrices": changes.total},
            "Tuning changes weights far less: this is probably another base, or another revision of it.",
            "Name the base and revision that were tuned.",
        )


def _multiplied(changes: Changes) -> Iterator[Outcome]:
    factors = {name: one.length for name, one in changes.uncut.items() if one.turn < SCALED_TURN}
    scaled = {name: one for name, one in factors.items() if not 1 / SCALED_BY < one < SCALED_BY}
    if scaled:
        first = next(iter(scaled))
        yield fatal(
            f"{len(scaled)} tensor(s) are the origin's multiplied by a number, first {first} "
            f"({scaled[first]:.3g} times as long, turned by {changes.uncut[first].turn:.4f})",
            {"tensors": {name: round(one, 4) for name, one in list(scaled.items())[:50]}, "count": len(scaled)},
            "No training does this; a scale was applied twice or left out: answers are distorted.",
            "Export again from the training checkpoint.",
        )


ALWAYS: tuple[Rule, ...] = (_not_finite, _rearranged, _cut, _reset, _reshaped)
IF_RELATED: tuple[Rule, ...] = (uncancelled, _made_up, _reordered, _turned_far, _multiplied)
