"""Checks a tuned folder against the one that it was made from: weights, settings, code.

Knows no tokens and no templates; they have checks of their own.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from service.audit.check import BaseView, Check, Outcome, fatal, note, warning
from service.audit.checks.cut_weights import RISKY, cut_weights
from service.audit.checks.picture_settings import KINDS
from service.audit.checks.rearranged import rearranged
from service.audit.checks.same_function import in_effect, taken_over, uncancelled
from service.audit.checks.weights_complete import HEADS, TABLES
from service.audit.settings_diff import Difference, differing_settings, picture_differences
from service.domain.facts import BaseFacts, OriginFacts, TensorChange

SHOWN = 5
UNRELATED = 0.9
"""Turn beyond which two matrices have nothing in common; the demo's adapters turn theirs by up to 0.21."""
MOVED = 0.2
"""Share of a matrix in rows that have nothing in common with the origin's; training turns all rows a little."""
FAR = 0.3
"""Median turn beyond which a folder is hardly a tuned version of its origin."""
SCALED_BY, SCALED_TURN = 1.8, 0.2
"""A matrix that is so many times as long or as short and points where it did was multiplied, not trained."""
MIN_RESET = 16
"""Values that are the same by no chance."""
MIN_VALUES = 1024
"""Smaller matrices may turn far by chance."""
GENERATION = ("do_sample", "temperature", "top_p", "top_k", "repetition_penalty", "num_beams", "max_new_tokens")


def base_origin(view: BaseView) -> Iterator[Outcome]:
    """Compare a folder with its origin."""
    origin, base = view.origin, view.base
    if origin is None:
        return
    yield from _lost(origin, base)
    yield from _head_lost(origin.base, base)
    yield from _values(origin, base)
    if view.merge is None:
        yield from _effect(origin, base)
    yield from _settings(origin, base)
    yield from _generation(origin, base)


def _lost(origin: OriginFacts, base: BaseFacts) -> Iterator[Outcome]:
    """Tensors that the model needs are `weights_complete`'s matter, where that is known."""
    lost = [name for name in origin.missing if not TABLES.search(name)]
    if base.is_tied is not False and base.head is None:
        lost = [name for name in lost if not name.endswith(HEADS)]
    blueprint = base.blueprint
    if not lost or any(one.file.endswith((".safetensors", ".index.json")) for one in base.problems):
        return
    if blueprint and blueprint.problem is None and blueprint.classes:
        needed = {*blueprint.missing, *(one for one in blueprint.missing if one.endswith(HEADS))}
        if idle := [name for name in lost if name not in needed and not needed]:
            yield note(
                f"{len(idle)} tensor(s) of the origin that the model does not use were dropped, first {idle[0]}",
                {"tensors": idle[:50], "count": len(idle)},
            )
        return
    yield fatal(
        f"{len(lost)} of the origin's {len(origin.base.tensors)} tensor(s) are missing: {', '.join(lost[:SHOWN])}",
        {"tensors": lost[:50], "count": len(lost)},
        "A part of the model was dropped when it was exported: it is made up at random, or the model cannot do what it "
        "was for.",
        "Copy the missing tensors from the base model's files under the same names and add them to the index.",
    )


def _head_lost(origin: BaseFacts, base: BaseFacts) -> Iterator[Outcome]:
    """A head that training kept apart from the embeddings cannot be left out by declaring both to be one."""
    if origin.head is None or origin.embedding is None or origin.is_tied is not False or base.head is not None:
        return
    if base.is_tied and not origin.head.is_copy:
        yield fatal(
            f"the origin has {origin.head.tensor}, this folder has none and takes the embeddings for it",
            {"tensor": origin.head.tensor, "tie_word_embeddings": base.is_tied},
            "The trained head is lost: answers are noise.",
            "Export the head too and write tie_word_embeddings false at both levels of config.json.",
        )


def _values(origin: OriginFacts, base: BaseFacts) -> Iterator[Outcome]:
    vocabulary = {one.tensor for one in (base.embedding, base.head) if one}
    broken = [name for name, one in origin.changed.items() if not one.is_finite and name not in vocabulary]
    if broken and not base.inner.nonfinite:  # else finite_weights says so
        yield fatal(
            f"{len(broken)} tensor(s) hold NaN or infinity, first {broken[0]}",
            {"tensors": broken[:50], "count": len(broken)},
            "NaN spreads through the whole answer.",
            "Use an earlier checkpoint; train in bfloat16 rather than float16.",
        )
    yield from rearranged(
        {name: one.rearranged for name, one in origin.changed.items() if one.rearranged}, "the origin's"
    )
    matrices = {
        name: one
        for name, one in in_effect(origin).items()
        if one.is_finite and one.rearranged is None and _is_telling(name, one, base)
    }
    yield from cut_weights(base, matrices)
    matrices = {name: one for name, one in matrices.items() if not RISKY <= one.cut < 1}
    yield from _reset(origin, base, vocabulary)
    if origin.reshaped and not base.problems:
        yield from _reshaped(origin, vocabulary)
    total = sum(_is_large(one.shape) for one in origin.base.tensors.values())
    unrelated = [name for name, one in matrices.items() if one.turn > UNRELATED]
    if unrelated and 2 * len(unrelated) > total:
        yield _other_origin(unrelated, total)
        return
    yield from uncancelled(origin, base)
    if unrelated:
        yield _made_up(unrelated, matrices)
    if moved := [name for name, one in matrices.items() if _is_moved(name, one, vocabulary)]:
        yield _reordered(moved, matrices)
    turns = sorted(one.turn for one in matrices.values())
    far = turns[len(turns) // 2] if 2 * len(turns) > total else 0.0
    if far > FAR and not unrelated:
        yield warning(
            f"half of the {total} matrices turned by more than {far:.2f} (1 minus cosine) from the origin's",
            {"median_turn": round(far, 4), "matrices": total},
            "Tuning changes weights far less: this is probably another base, or another revision of it.",
            "Name the base and revision that were tuned.",
        )
    factors = {name: one.length for name, one in matrices.items() if one.turn < SCALED_TURN}
    scaled = {name: one for name, one in factors.items() if not 1 / SCALED_BY < one < SCALED_BY}
    if scaled:
        first = next(iter(scaled))
        yield fatal(
            f"{len(scaled)} tensor(s) are the origin's multiplied by a number, first {first} "
            f"({scaled[first]:.3g} times as long, turned by {matrices[first].turn:.4f})",
            {"tensors": {name: round(one, 4) for name, one in list(scaled.items())[:50]}, "count": len(scaled)},
            "No training does this; a scale was applied twice or left out: answers are distorted.",
            "Export again from the training checkpoint.",
        )


def _is_moved(name: str, one: TensorChange, vocabulary: set[str]) -> bool:
    return one.strange_share > MOVED and one.turn <= UNRELATED and name not in vocabulary


def _reordered(moved: list[str], matrices: Mapping[str, TensorChange]) -> Outcome:
    first = moved[0]
    return fatal(
        f"{len(moved)} tensor(s) have rows that have nothing in common with the origin's, though the whole resembles "
        f"it, first {first} ({matrices[first].strange_share:.0%} of it)",
        {"tensors": {name: round(matrices[name].strange_share, 4) for name in moved[:50]}, "count": len(moved)},
        "Rows were put in another order, or a part of a joined matrix was not filled in, as conversions between "
        "frameworks do: these layers compute something else.",
        "Convert again from the training checkpoint with the layout of this model, or copy these tensors from the base "
        "model's files if they were not trained.",
    )


def _reset(origin: OriginFacts, base: BaseFacts, vocabulary: set[str]) -> Iterator[Outcome]:
    """Norms and biases are too small to resemble anything, but training leaves none with a single value."""
    found = [
        name
        for name, one in origin.changed.items()
        if one.is_reset and not _is_telling(name, one, base) and name in base.tensors and name not in vocabulary
    ]
    found = [name for name in found if name not in taken_over(origin)]  # what reads them took it
    if found := [name for name in found if math.prod(base.tensors[name].shape) >= MIN_RESET]:
        yield fatal(
            f"{len(found)} tensor(s) hold the same number throughout, where the origin's are trained: "
            + ", ".join(found[:SHOWN]),
            {"tensors": found[:50], "count": len(found)},
            "They are as a library makes them before it reads a file: what they knew is lost, and layers work at "
            "another scale.",
            "Copy these tensors from the base model's files.",
        )


def _is_telling(name: str, one: TensorChange, base: BaseFacts) -> bool:
    return not one.is_origin_zero and name in base.tensors and _is_large(base.tensors[name].shape)


def _is_large(shape: tuple[int, ...]) -> bool:
    return len(shape) >= 2 and math.prod(shape) >= MIN_VALUES


def _reshaped(origin: OriginFacts, vocabulary: set[str]) -> Iterator[Outcome]:
    inner = {name: one for name, one in origin.reshaped.items() if name not in vocabulary}
    if inner:
        name, (old, new) = next(iter(inner.items()))
        yield fatal(
            f"{len(inner)} tensor(s) have other shapes than the origin's, first {name}: {list(old)} became {list(new)}",
            {"tensors": {key: [list(one) for one in both] for key, both in list(inner.items())[:50]}},
            "Tuning changes no shape but those of vocabulary matrices: this is a model of another size.",
            "Name the base that was tuned.",
        )


def _other_origin(unrelated: list[str], total: int) -> Outcome:
    return fatal(
        f"{len(unrelated)} of {total} matrices have nothing in common with the origin's, first {unrelated[0]}",
        {"tensors": unrelated[:50], "count": len(unrelated), "matrices": total},
        "The folder was not tuned from this base: an adapter of the one does not fit the other.",
        "Name the base that was tuned (its id and revision are in adapter_config.json or the trainer's args).",
    )


def _made_up(unrelated: list[str], matrices: Mapping[str, TensorChange]) -> Outcome:
    zero = [name for name in unrelated if matrices[name].turn == 1.0 and abs(matrices[name].relative - 1) < 1e-6]
    how = "are zero" if len(zero) == len(unrelated) else "have nothing in common with the origin's"
    return fatal(
        f"{len(unrelated)} tensor(s) {how}, while the others resemble it: {', '.join(unrelated[:SHOWN])}",
        {"tensors": {name: round(matrices[name].turn, 4) for name in unrelated[:50]}, "count": len(unrelated)},
        "They were made up at random when the model was loaded for training or export, or tensors were swapped: the "
        "model works without what they knew.",
        "Copy these tensors from the base model's files, or from the training checkpoint if they were trained.",
    )


def _effect(origin: OriginFacts, base: BaseFacts) -> Iterator[Outcome]:
    extra = [name for name in origin.extra if not name.endswith(HEADS)]
    if origin.changed or origin.reshaped or extra or not origin.num_equal or any(base.problems):
        return
    if origin.is_tuning_beside:
        yield note(f"all {origin.num_equal} tensors are the origin's", {"equal": origin.num_equal})
        return
    yield warning(
        f"all {origin.num_equal} tensors are the origin's: tuning changed nothing",
        {"equal": origin.num_equal},
        "Answers are the base's: probably the base was saved instead of the tuned model.",
        "Save the instance that was trained, or merge the adapter before saving.",
    )


def _settings(origin: OriginFacts, base: BaseFacts) -> Iterator[Outcome]:
    """Settings that decide what the weights mean must be the origin's."""
    if base.model_type != origin.base.model_type:
        yield fatal(
            f"model_type is {base.model_type!r}, the origin's {origin.base.model_type!r}",
            {"model_type": base.model_type, "origin": origin.base.model_type},
            "The weights are read as those of another model.",
            "Copy config.json from the base model, and change only what training changed.",
        )
        return
    differing = differing_settings(origin.base, base)
    for weight, rule in (("decides", fatal), ("matters", warning)):
        found = {path: one.values for path, one in differing.items() if one.weight == weight}
        if found:
            yield rule(
                "config.json differs from the origin's: " + _spelled(found),
                {"settings": {path: [_shown(old), _shown(new)] for path, (old, new) in found.items()}},
                "The weights were trained with the origin's settings: the model computes something else.",
                "Restore these settings from the base model's config.json, unless training changed them on purpose.",
            )
    if base.model_type in KINDS:
        yield from _pictures(picture_differences(origin.base.documents, base.documents))
    if soft := {path: one.values for path, one in differing.items() if one.weight == "note"}:
        yield note(
            "config.json differs from the origin's without effect on answers: " + _spelled(soft),
            {"settings": {path: [_shown(old), _shown(new)] for path, (old, new) in soft.items()}},
        )


def _pictures(differing: Mapping[str, Difference]) -> Iterator[Outcome]:
    """What concerns every picture is not tuned; how large pictures are cut is also a knob of those who serve."""
    for weight, rule, consequence in (
        (
            "decides",
            fatal,
            "Every picture reaches the model in other pieces than in training: answers about pictures are wrong.",
        ),
        ("matters", warning, "If training used the origin's settings, small print and details are lost."),
    ):
        found = {key: one.values for key, one in differing.items() if one.weight == weight}
        if found:
            yield rule(
                "pictures are cut otherwise than for the origin: " + _spelled(found),
                {"settings": {key: [_shown(old), _shown(new)] for key, (old, new) in found.items()}},
                consequence,
                "Restore the values of training in the processor's files: processor_config.json, or "
                "preprocessor_config.json where there is none.",
            )


def _generation(origin: OriginFacts, base: BaseFacts) -> Iterator[Outcome]:
    name = "generation_config.json"
    old, new = origin.base.documents.get(name, {}), base.documents.get(name, {})
    if not old or not new:
        return
    if found := {key: (old.get(key), new.get(key)) for key in GENERATION if old.get(key) != new.get(key)}:
        yield note(
            f"{name} differs from the origin's: " + _spelled(found),
            {"settings": {key: [_shown(one) for one in both] for key, both in found.items()}},
            "This service samples as a request says; servers that take defaults from the file answer differently.",
        )


def _spelled(found: Mapping[str, tuple[Any, Any]]) -> str:
    shown = [f"{path} {_shown(old)} became {_shown(new)}" for path, (old, new) in list(found.items())[:SHOWN]]
    return ", ".join(shown) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)[:60]


CHECK = Check(
    "origin",
    "A tuned folder is its origin, changed by tuning and by nothing else",
    of_base=base_origin,
    needs_origin=True,
    why="""\
Tuning turns weights by a few per cent and leaves names, shapes and settings alone. With `--base BASE` the audit
compares every tensor: parts that export dropped, tensors that a failed load made up anew and that were saved so,
tensors that were swapped or multiplied, rows in another framework's order, signs that turned, the tower's colours and
positions in another order, a base that is not the one that was tuned, and a folder in which nothing changed because
the base was saved instead of the tuned model. Scales, factors and orders that one tensor takes and the next one gives
back (a norm's channels and all matrices that read it, a projection and the next one, neurons of a feed-forward layer)
are no difference; those that only some of these tensors took are, and so are weights that were pruned while nothing
was trained afterwards. Names are matched exactly, or behind a prefix that re-saving renamed as
a whole; casts between float32, bfloat16 and float16 count as equal.

Settings of `config.json` are compared as the model's class reads them, defaults filled in, so that another spelling
or a default that is written out is no difference. Those that decide what weights mean (heads, rotary speed,
activation, scales, layers of the tower) must be the origin's; no shape betrays them.

Source: LLaMA-Factory#6973, MiniCPM-V#1004, MiniCPM-V#559; transformers 5.23 initialises what it does not find.""",
)
