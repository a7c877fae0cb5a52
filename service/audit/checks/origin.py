"""Checks a tuned folder against the one that it was made from: what is there, and settings.

Knows no tokens and no templates, which have checks of their own, and no values, which are `tuned_weights.py`'s matter.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from service.audit.check import BaseView, Check, Outcome, fatal, note, warning
from service.audit.checks.picture_settings import KINDS
from service.audit.checks.tuned_weights import tuned_weights
from service.audit.checks.weights_complete import HEADS, TABLES
from service.audit.settings_diff import Difference, differing_settings, picture_differences
from service.domain.facts import BaseFacts, OriginFacts

SHOWN = 5
GENERATION = ("do_sample", "temperature", "top_p", "top_k", "repetition_penalty", "num_beams", "max_new_tokens")


def base_origin(view: BaseView) -> Iterator[Outcome]:
    """Compare a folder with its origin."""
    origin, base = view.origin, view.base
    if origin is None:
        return
    yield from _lost(origin, base)
    yield from _head_lost(origin.base, base)
    yield from tuned_weights(origin, base)
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
