"""Judges changes that several tensors of a layer share: scales, factors and orders that cancel out, or do not.

Knows no other change; `tuned_weights` says what is left of them.
"""

import math
from collections.abc import Iterator, Mapping

from service.audit.changes import Changes, holds_inverse, is_mixed, taken_over
from service.audit.check import Outcome, fatal, note
from service.audit.odd_norms import NORM
from service.domain.facts import NormShift, OriginFacts
from service.domain.norms import adds_one

SHOWN = 5
MADE_UP = 0.9
"""Turn beyond which a matrix is another one, whatever its norm is."""
SURE = 0.1
"""Error of what a matrix holds, up to which it is no chance; training moves norms and columns the same way."""
SCALED = 0.3
"""Root mean square of the logarithm of a norm's factors: training alone moves norms by a few per cent."""
IN_ORDER = 0.3
"""Turn up to which neurons stand in an order."""
MOVED_NORM = 0.5
"""Length of the difference over that of the origin's: training alone moves norms by a few per cent."""
MOVED_ROWS = 0.25
"""The same of a vocabulary matrix; the inverse of a norm that moved by half changes it by a third."""
MIN_VALUES = 16
"""Fewer may be what they are by chance."""


def uncancelled(changes: Changes) -> Iterator[Outcome]:
    """Say which scales and orders reached only some of the tensors that had to take them, and which reached all."""
    yield from _norms(changes.origin)
    yield from _norms_alone(changes)
    yield from _neurons(changes.origin)
    yield from _cancelled(changes.origin)


def _lacking(origin: OriginFacts, shift: NormShift) -> list[str]:
    """Name the readers without the inverse scale, where either the norm moved too far or others have it.

    A norm that moved a little may have been trained; then one matrix must plainly have been scaled for it.
    """
    readers = {
        name: one
        for name, one in shift.readers.items()
        if name not in origin.changed or origin.changed[name].turn <= MADE_UP
    }
    is_meant = any(holds_inverse(one) and one.error <= SURE for one in readers.values())
    if not is_meant and shift.strength <= SCALED:
        return []
    return [name for name, one in readers.items() if not holds_inverse(one)]


def _norms(origin: OriginFacts) -> Iterator[Outcome]:
    lacking = {
        name: missing
        for name, one in origin.same.norms.items()
        if not origin.changed[name].is_reset and (missing := _lacking(origin, one))
    }
    if not lacking:
        return
    norms = {name: origin.same.norms[name] for name in lacking}
    first = max(norms, key=lambda name: norms[name].strength)
    num_readers, num_lacking = sum(len(one.readers) for one in norms.values()), sum(map(len, lacking.values()))
    shown = [one for name in sorted(lacking, key=lambda name: name != first) for one in lacking[name]][:SHOWN]
    yield fatal(
        f"{len(norms)} norm(s) multiply channels by other numbers than the origin's, first {first} (by "
        f"{norms[first].low:.3g} to {norms[first].high:.3g} times as much), and {num_lacking} of the {num_readers} "
        f"matrices that read them do not hold the inverse: {', '.join(shown)}",
        {
            "norms": {name: _described(norms[name], lacking[name]) for name in list(norms)[:20]},
            "count": len(norms),
            "lacking": num_lacking,
        },
        "Quantisation moves scales out of norms and into all matrices behind them: these read their input at other "
        "scales than they were trained for.",
        "Multiply the columns of these matrices by the inverse of what their norm's channels were multiplied by, or "
        "copy these norms and every matrix that reads them from the base model's files.",
    )


def _described(norm: NormShift, lacking: list[str]) -> dict[str, object]:
    return {
        "times": [round(norm.low, 4), round(norm.high, 4)],
        "share of the inverse": {name: round(one.share, 4) for name, one in norm.readers.items()},
        "lacking": lacking,
    }


def _norms_alone(changes: Changes) -> Iterator[Outcome]:
    """Norms of which no matrix is known that reads them, in a folder whose matrices are the origin's.

    Biases, and weights to which one is added, may be next to zero: a length that training easily changes by half.
    Vocabulary matrices may have been trained, as beside new tokens, but not so far that they may hold a norm's scale.
    """
    origin, base = changes.origin, changes.base
    matrices = {name for name in origin.changed if name in base.tensors and len(base.tensors[name].shape) >= 2}
    if any(name not in changes.vocabulary or origin.changed[name].relative > MOVED_ROWS for name in matrices):
        return
    config = base.documents.get("config.json", {})
    far = {
        name: one.relative
        for name, one in origin.changed.items()
        if name in base.tensors and one.is_finite and not one.is_reset and one.relative > MOVED_NORM
    }
    far = {name: one for name, one in far.items() if NORM.search(name) and not adds_one(name, config)}
    far = {name: one for name, one in far.items() if name not in origin.same.norms}
    far = {name: one for name, one in far.items() if math.prod(base.tensors[name].shape) >= MIN_VALUES}
    if far:
        first = max(far, key=lambda name: far[name])
        yield fatal(
            f"{len(far)} norm(s) differ from the origin's by up to {far[first]:.2f} of their length, first {first}, "
            f"while every matrix {'but those of the vocabulary ' if matrices else ''}is the origin's",
            {"tensors": {name: round(one, 4) for name, one in list(far.items())[:50]}, "count": len(far)},
            "Quantisation moves scales out of norms and into the matrices behind them: without these, every layer "
            "reads its input at other scales.",
            "Copy these tensors from the base model's files, or export norms and matrices from one checkpoint.",
        )


def _neurons(origin: OriginFacts) -> Iterator[Outcome]:
    mixed = [one for one in origin.same.neurons if is_mixed(one)]
    if not mixed:
        return
    first = mixed[0]
    moved = [name for name, turn in first.alone.items() if turn <= IN_ORDER]
    others = [name for name in first.turns if name not in moved]
    where = "each in an order of its own" if len(moved) > 1 else "alone"
    yield fatal(
        f"{len(mixed)} feed-forward layer(s) have neurons in other places in one matrix than in the next, first "
        f"{', '.join(moved) or next(iter(first.alone))} ({first.share:.0%} of the neurons, {where})"
        + (f", and not {', '.join(others)}" if others and moved else ""),
        {
            "layers": [
                {
                    "share": round(one.share, 4),
                    "turn in the origin's order": _rounded(one.turns),
                    "in one order": _rounded(one.together),
                    "each in its best order": _rounded(one.alone),
                }
                for one in mixed[:20]
            ],
            "count": len(mixed),
        },
        "The rows of what goes up and the columns of what comes down must be in one order: these layers multiply what "
        "does not belong together, and answers are noise.",
        "Put the rows and columns of all matrices of a layer in one order, or copy these tensors from the base model's "
        "files if they were not trained.",
    )


def _cancelled(origin: OriginFacts) -> Iterator[Outcome]:
    """Say what differs in every value and not in what is computed."""
    same = origin.same
    norms = sorted(taken_over(origin))
    orders = [one for one in same.neurons if not is_mixed(one)]
    what = {
        f"{len(norms)} norm(s) gave a scale to all matrices that read them": norms,
        f"{len(same.factors)} matrix(es) gave a factor to the next one": [one for one, _ in same.factors],
        f"{len(orders)} feed-forward layer(s) have their neurons in another order": [
            next(iter(o.turns)) for o in orders
        ],
    }
    for said, names in what.items():
        if names:
            yield note(
                f"{said}, first {sorted(names)[0]}: they compute what the origin's do",
                {"tensors": sorted(names)[:50], "count": len(names)},
            )


def _rounded(turns: Mapping[str, float]) -> dict[str, float]:
    return {name: round(one, 4) for name, one in turns.items()}
