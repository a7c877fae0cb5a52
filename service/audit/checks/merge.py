"""Checks that a folder holds its origin plus one adapter: all of it, once, and nothing else.

Knows no adapter format; how large the update is and how much of it is there are facts.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

from service.audit.check import BaseView, Check, Outcome, fatal, note, skipped, warning
from service.audit.checks.weights_complete import HEADS
from service.domain.facts import MergeFacts, OriginFacts, TensorMerge, TokenizerFacts

SHOWN = 5
EMBEDDINGS = ("embed_tokens.weight", "word_embeddings.weight", "tok_embeddings.weight", "wte.weight")
COMPUTED = frozenset({"", "LORA", "TRAINABLE_TOKENS"})
ROUNDINGS = 3.0
"""A sound merge misses the update by what rounding makes, or a little more if it rounded more than once."""
MARGIN = 0.05
MISSING_SHARE = 0.1
LOST_SHARE, HALF_SHARE = 0.9, 0.5
"""Shares of the update under which rounding has swallowed some, and most, of it."""
SWALLOWING = 0.3
"""Rounding smaller than this, relative to the update, swallows nothing of it."""
LEEWAY = 1.5
COPY_TOKENIZER = "Copy tokenizer.json, tokenizer_config.json and the chat template from the adapter's folder."
HOW = "in float32 and cast afterwards: `minicpm-service merge BASE ADAPTER`."
AGAIN = f"Merge again {HOW}"

Judge = Callable[[MergeFacts, list[str]], Iterator[Outcome]]


def base_merge(view: BaseView) -> Iterator[Outcome]:
    """Compare what an adapter should have changed with what is stored."""
    merge = view.merge
    if merge is None:
        return
    if merge.adapter.peft_type not in COMPUTED:
        yield from _not_computed(merge, view.origin)
        return
    yield from _adapter_fits(merge)
    yield from _tokens(merge, view.base.tokenizer)
    yield from _shapes(merge)
    judges = {name: _judge_of(one) for name, one in merge.targets.items()}
    judges |= dict.fromkeys(_too_small_to_tell(merge, judges))
    for judge in (_not_finite, _missing, _swallowed, _scaled, _different):
        if judge is not _not_finite or not view.base.inner.nonfinite:  # else finite_weights says so
            yield from judge(merge, [name for name, one in judges.items() if one is judge])
    yield from _rounded(merge)
    yield from _uncomputed(merge, view.origin)
    if foreign := dict(sorted(merge.foreign.items(), key=lambda one: -one[1])):
        yield fatal(
            f"{len(foreign)} tensor(s) that the adapter does not touch differ from the origin's: {_some(foreign)}",
            {"tensors": {name: round(one, 6) for name, one in list(foreign.items())[:50]}, "count": len(foreign)},
            "The folder is another model than base plus adapter: a different base, a second adapter, or a broken copy.",
            "Name the base that was really merged into, or merge again.",
        )


def _not_computed(merge: MergeFacts, origin: OriginFacts | None) -> Iterator[Outcome]:
    """An adapter of another type: what can be told is whether anything was merged."""
    if origin and not origin.changed and not origin.reshaped:
        yield fatal(
            f"all {origin.num_equal} tensors are the origin's, though a {merge.adapter.peft_type} adapter is said "
            "to be merged",
            {"equal": origin.num_equal, "peft_type": merge.adapter.peft_type},
            "Answers are the base's.",
            AGAIN,
        )
        return
    yield skipped(
        f"what merging an adapter of type {merge.adapter.peft_type} must write is not computed here",
        "Prove the merge by logits instead: `minicpm-service merge` does so.",
    )


def _judge_of(one: TensorMerge) -> Judge | None:
    """Return what judges a tensor; None if it is merged soundly."""
    if not one.is_finite:
        return _not_finite
    if one.expected == 0:
        return _different if one.measured > 0 else None
    if one.residual <= ROUNDINGS * one.rounding + MARGIN and one.share > LOST_SHARE:
        return None
    if _is_sound_but_rounded(one):
        return None
    if one.share < LOST_SHARE and one.rounding > SWALLOWING:
        return _swallowed
    if abs(one.share) < MISSING_SHARE and one.measured < MISSING_SHARE * one.expected + one.rounding * one.expected:
        return _missing
    across = math.sqrt(max(0.0, one.residual**2 - (1 - one.share) ** 2))
    if across <= max(ROUNDINGS * one.rounding, MARGIN) * max(1.0, abs(one.share)):
        return _scaled
    return _different


def _is_sound_but_rounded(one: TensorMerge) -> bool:
    """Say whether nothing is left of the change but what rounding to a few bits makes.

    Without the update a tensor lies on the levels of these bits only if all of the update is there, and once; one that
    was rounded afterwards must have about all of it.
    """
    if one.base_bits and one.rounding < SWALLOWING:
        return True
    return bool(one.base_bits or one.stored_bits) and LOST_SHARE < one.share < 2 - LOST_SHARE


def _too_small_to_tell(merge: MergeFacts, judges: Mapping[str, Judge | None]) -> list[str]:
    """Name tensors that have too few values to show levels, and are off by as little as those that show them."""
    known = [
        one.residual * one.expected for one in merge.targets.values() if one.base_bits and _is_sound_but_rounded(one)
    ]
    if 2 * len(known) < len(merge.targets):
        return []
    return [
        name
        for name, one in merge.targets.items()
        if judges[name] in (_different, _scaled)
        and one.residual * one.expected < LEEWAY * max(known)
        and abs(one.share - 1) < HALF_SHARE
    ]


def _rounded(merge: MergeFacts) -> Iterator[Outcome]:
    """Tell what was rounded to a few bits before merging, or afterwards."""
    sound = {name: one for name, one in merge.targets.items() if one.is_finite and _is_sound_but_rounded(one)}
    before = {name: one.base_bits for name, one in sound.items() if one.base_bits} | dict(merge.rounded)
    if before:
        bits = " and ".join(str(one) for one in sorted(set(before.values())))
        yield note(
            f"it was merged into the origin as rounded to {bits} bits: {len(before)} tensor(s) without the update lie "
            f"on their levels, such as {next(iter(before))}",
            {"tensors": dict(list(before.items())[:50]), "count": len(before)},
            "Answers are those of training if the adapter was trained so (QLoRA), and else a little worse.",
        )
    if after := {name: one.stored_bits for name, one in sound.items() if one.stored_bits}:
        bits = " and ".join(str(one) for one in sorted(set(after.values())))
        yield warning(
            f"{len(after)} of {len(merge.targets)} merged tensor(s) were rounded to {bits} bits after merging, such as "
            f"{next(iter(after))}",
            {"tensors": dict(list(after.items())[:50]), "count": len(after)},
            "Rounding blurs the update itself: answers are worse than those of the mounted adapter.",
            f"Load the base in 16 bits, and merge again {HOW}",
        )


def _adapter_fits(merge: MergeFacts) -> Iterator[Outcome]:
    if merge.adapter.problems:
        first = merge.adapter.problems[0]
        yield fatal(
            f"the adapter that was merged cannot be read: {first.file} {first.problem}",
            {"file": first.file},
            "Nothing shows whether the folder holds it.",
            "Name the adapter's folder as it was trained.",
        )
    if merge.unmatched:
        total = len(merge.unmatched) + len(merge.targets)
        yield fatal(
            f"{len(merge.unmatched)} of the adapter's {total} tensor(s) have no counterpart in the origin, first "
            f"{merge.unmatched[0]}",
            {"tensors": list(merge.unmatched)[:50], "count": len(merge.unmatched)},
            "The adapter belongs to another base: it cannot have been merged whole.",
            "Name the base that it was trained on.",
        )


def _tokens(merge: MergeFacts, tokenizer: TokenizerFacts | None) -> Iterator[Outcome]:
    """Tokens that the adapter brought must be in the folder's tokenizer, under the ids of their rows."""
    if tokenizer is None:
        return
    new = merge.adapter.new_tokens
    lost = {text: one for text, one in new.items() if text not in tokenizer.vocabulary}
    moved = {
        text: {"trained": one, "found": tokenizer.vocabulary[text]}
        for text, one in new.items()
        if text not in lost and tokenizer.vocabulary[text] != one
    }
    if moved:
        text, ids = next(iter(moved.items()))
        yield fatal(
            f"the folder's tokenizer gives {len(moved)} of {len(new)} token(s) that the adapter brought other ids, "
            f"first {text}: {ids['found']} instead of {ids['trained']}",
            {"tokens": dict(list(moved.items())[:50]), "count": len(moved)},
            "Each of them is read and written with the row of another one.",
            COPY_TOKENIZER,
        )
    if lost:
        yield fatal(
            f"the folder's tokenizer lacks {len(lost)} of {len(new)} token(s) that the adapter brought, first "
            f"{next(iter(lost))}",
            {"tokens": dict(list(lost.items())[:50]), "count": len(lost)},
            "The tokens are read and written as pieces of text: what they were trained for is out of reach.",
            COPY_TOKENIZER,
        )


def _shapes(merge: MergeFacts) -> Iterator[Outcome]:
    if merge.missing:
        yield fatal(
            f"{len(merge.missing)} tensor(s) that the adapter changes are missing: {', '.join(merge.missing[:SHOWN])}",
            {"tensors": list(merge.missing)[:50]},
            "What was trained into them is lost.",
            AGAIN,
        )
    if merge.reshaped:
        name, (wanted, stored) = next(iter(merge.reshaped.items()))
        yield fatal(
            f"{name} has the shape {list(stored)}, the adapter makes it {list(wanted)}",
            {"tensors": {key: [list(one) for one in both] for key, both in list(merge.reshaped.items())[:50]}},
            "Rows of new tokens were not taken over, or the matrix of another base was used.",
            "Resize the base to the adapter's rows before merging, then merge again.",
        )


def _not_finite(merge: MergeFacts, names: list[str]) -> Iterator[Outcome]:
    if names:
        yield fatal(
            f"{len(names)} merged tensor(s) hold NaN or infinity, first {names[0]}",
            {"tensors": names[:50], "count": len(names)},
            "NaN spreads through the whole answer.",
            "Look for NaN in the adapter; merge in float32 with safe_merge=True.",
        )


def _missing(merge: MergeFacts, names: list[str]) -> Iterator[Outcome]:
    if not names:
        return
    total = len(merge.targets)
    if len(names) == total:
        said = f"nothing was merged: all {total} tensor(s) that the adapter changes are as in the origin, such as"
    else:
        said = f"the adapter is only partly merged: {len(names)} of {total} tensor(s) are the origin's, first"
    yield fatal(
        f"{said} {names[0]}{_of_tokens(merge, names)}",
        {"tensors": _numbers(merge, names), "missing": len(names), "targets": total},
        "Answers are the base's, or between base and adapter.",
        f"Save the instance that the adapter was merged into (merge_and_unload returns it), or merge again {HOW}",
    )


def _of_tokens(merge: MergeFacts, names: list[str]) -> str:
    """Name the tokens whose trained rows are in a matrix that was left as it was."""
    ids = {one for trained in merge.adapter.trainable_tokens.values() for one in trained}
    tokens = {text: one for text, one in merge.adapter.new_tokens.items() if one in ids}
    if not tokens or not any(name.endswith((*EMBEDDINGS, *HEADS)) for name in names):
        return ""
    shown = ", ".join(f"{text} (id {one})" for text, one in list(tokens.items())[:SHOWN])
    return f"; the rows that it trained for {len(tokens)} new token(s) are lost, first {shown}"


def _swallowed(merge: MergeFacts, names: list[str]) -> Iterator[Outcome]:
    if not names:
        return
    share = _share(merge, names)
    is_most = len(names) >= HALF_SHARE * len(merge.targets)
    severity = note if not is_most else fatal if share < HALF_SHARE else warning
    yield severity(
        f"rounding swallowed {100 * (1 - share):.0f} % of the update of {len(names)} of {len(merge.targets)} "
        f"tensor(s), first {names[0]}",
        {"tensors": _numbers(merge, names), "share": round(share, 4)},
        "The update is smaller than the steps of the stored type: answers fall back towards the base's.",
        "Merge in float32 and save in float32 or float16, whichever the adapter was trained in.",
    )


def _scaled(merge: MergeFacts, names: list[str]) -> Iterator[Outcome]:
    if not names:
        return
    share = _share(merge, names)
    twice = ": it was merged twice" if abs(share - 2) < MARGIN else ""
    yield fatal(
        f"the update of {len(names)} of {len(merge.targets)} tensor(s), first {names[0]}, is there {share:.3g} times "
        f"instead of once{twice}",
        {"tensors": _numbers(merge, names), "share": round(share, 4), "config": _scaling(merge.adapter.documents)},
        "The adapter acts too strongly or too weakly: answers are distorted.",
        "Merge once, with lora_alpha, r, use_rslora and the patterns of adapter_config.json: " + AGAIN,
    )


def _different(merge: MergeFacts, names: list[str]) -> Iterator[Outcome]:
    if names:
        worst = max(names, key=lambda name: merge.targets[name].residual)
        yield fatal(
            f"{len(names)} of {len(merge.targets)} merged tensor(s) are not origin plus update, worst {worst}: off by "
            f"{merge.targets[worst].residual:.2f} of the update's length",
            {"tensors": _numbers(merge, names), "count": len(names)},
            "Another adapter, another base or another checkpoint of the adapter was merged.",
            f"Name what was really merged, or merge again {HOW}",
        )


def _uncomputed(merge: MergeFacts, origin: OriginFacts | None) -> Iterator[Outcome]:
    """Where the update is of a kind that is not computed here, say so; that nothing changed can still be seen."""
    if not merge.uncomputed:
        return
    reasons = sorted(set(merge.uncomputed.values()))
    changed = {_ending(name) for name in origin.changed} if origin else set()
    if origin and not any(_ending(f"{module}.weight") in changed for module in merge.uncomputed):
        yield fatal(
            f"nothing was merged: none of the {len(merge.uncomputed)} module(s) that the adapter changes differs "
            f"from the origin, such as {next(iter(merge.uncomputed))}",
            {"modules": list(merge.uncomputed)[:50]},
            "Answers are the base's.",
            AGAIN,
        )
        return
    yield skipped(
        f"{len(merge.uncomputed)} module(s) are merged in a way that is not computed here: {'; '.join(reasons)}",
        "Compare answers of the merged folder with those of the mounted adapter.",
    )


def _ending(name: str) -> str:
    """Return a name's end from the layer's number on, as prefixes may be called otherwise."""
    match = re.search(r"\.(\d+\..*)$", name)
    return match[1] if match else ".".join(name.split(".")[-2:])


def _share(merge: MergeFacts, names: list[str]) -> float:
    return median(merge.targets[name].share for name in names)


def _some(found: Mapping[str, float]) -> str:
    return ", ".join(f"{name} (by {100 * one:.2g} %)" for name, one in list(found.items())[:SHOWN])


def _numbers(merge: MergeFacts, names: list[str]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "expected": round(merge.targets[name].expected, 6),
            "measured": round(merge.targets[name].measured, 6),
            "share": round(merge.targets[name].share, 4),
            "residual": round(merge.targets[name].residual, 4),
        }
        for name in names[:20]
    }


def _scaling(documents: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    config = documents.get("adapter_config.json", {})
    return {key: config.get(key) for key in ("lora_alpha", "r", "use_rslora", "alpha_pattern", "rank_pattern")}


CHECK = Check(
    "merge",
    "The merged folder is its origin plus the adapter, once",
    of_base=base_merge,
    needs_merge=True,
    why="""\
A merge goes wrong silently: the instance that was saved is not the one that holds the adapter; a wrong prefix
merges nothing; alpha or rank are read without `use_rslora` or the patterns; a script runs twice; saved modules or
trained token rows are left behind; bfloat16 has steps so coarse that a small update disappears in them.

With `--merged-from BASE ADAPTER` the audit computes the update of every tensor in PEFT's own arithmetic (LoRA on
linear, convolution and embedding layers, DoRA, rsLoRA, rank and alpha patterns, `modules_to_save`, trained rows and
biases) and compares it with what the folder differs from the base by. `share` is how much of the update is there (0
nothing, 1 all, 2 twice), `residual` what is left unexplained, relative to the update. A sound merge misses it by
rounding alone, or by what QLoRA's base had been rounded by: such a merge without the update lies on the levels of 4 or
8 bits, block by block, which is noted; one that was rounded after merging is warned of. Adapter types that are not
computed are named and not judged, except that something must have changed.

Source: peft 0.21.2, `tuners/lora/layer.py`; MiniCPM-V#502, MiniCPM-V#559, LLaMA-Factory#8134, ms-swift#3974.""",
)
