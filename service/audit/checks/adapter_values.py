"""Judges what an adapter's tensors hold: factors on the vocabulary, layers of one another, modules saved whole.

Knows no shapes; `adapters.py` does.
"""

import re
from collections.abc import Collection, Iterator, Sequence

from service.audit.check import AdapterView, Outcome, fatal, note, warning
from service.audit.new_tokens import adapter_new_tokens
from service.audit.token_states import UNTRAINED, adapter_states, raw_late_tokens
from service.domain.factors import EMBEDDING, LINEAR, Part, parts_in
from service.domain.facts import AdapterFacts, ValueFacts

SHOWN = 5
HEADS = ("lm_head", "embed_out", "output_projection")
LAYER = re.compile(r"^(?P<before>.*\.)(?P<index>\d+)(?P<after>\..*)$")
OUTERMOST = re.compile(r"^(?P<before>.*?\.)(?P<index>\d+)\.")
"""Experts and the like within a layer may see nothing in training."""
EXPERT = re.compile(r"\.experts\.\d+\.")
LEAST_CUT, MIN_KINDS = 0.2, 3
"""Share of a factor in zeros at one end, and kinds of modules of which some are so."""
MIN_MODULES = 2
"""A single module may be left at zero by a trainer's design."""
MIN_REPEATED = 2
"""A single tensor may be the same by a trainer's design."""


def vocabulary_is_trained(view: AdapterView) -> Iterator[Outcome]:
    """Factors on embeddings or head are asked for by name: zero ones were meant to be trained, and were not."""
    values = view.adapter.values
    parts = parts_in(values)
    idle = [name for name, part in parts.items() if _is_of_vocabulary(part) and values[name].is_all_zero]
    is_trained = any(part.is_zero_at_first and not values[name].is_all_zero for name, part in parts.items())
    if not idle or not is_trained:
        return
    needing = _tokens_without_training(view)
    shown = ", ".join(f"{text} (id {one})" for one, text in list(needing.items())[:SHOWN])
    yield (fatal if needing else warning)(
        f"{idle[0]} is zero though the other layers were trained"
        + (f"; {len(needing)} token(s) in use have no other training, first {shown}" if needing else ""),
        {"tensors": idle, "tokens": {text: one for one, text in list(needing.items())[:50]}},
        "The embeddings were to be trained and were not: new tokens mean nothing."
        if needing
        else "The vocabulary was to be trained and was not: what the adapter learned there is missing.",
        "Some trainers read the matrix past the adapter (unsloth#9326): upgrade and train again, or train the rows as "
        "trainable_token_indices.",
    )


def _is_of_vocabulary(part: Part) -> bool:
    is_of_head = part.kind == LINEAR[1] and part.module.rpartition(".")[2] in HEADS
    return part.kind in EMBEDDING or is_of_head


def _tokens_without_training(view: AdapterView) -> dict[int, str]:
    """Find tokens in use with the adapter whose rows neither the base nor the adapter trained, by id."""
    new = adapter_new_tokens(view.base, view.adapter)
    found = {one.use.token_id: one.use.text for one in new if not one.is_input_trained and not one.use.is_reserved}
    late = raw_late_tokens(view.base)
    for token_id, state in adapter_states(view).items():
        is_needed = state.use.is_constant or state.use.is_rare or token_id in late
        if is_needed and state.input_state == UNTRAINED:
            found[token_id] = state.use.text
    return dict(sorted(found.items()))


def layers_are_distinct(adapter: AdapterFacts) -> Iterator[Outcome]:
    """Look for layers all of whose factors are another layer's: as they begin at random, no training makes them so.

    Layers that training never reached do not count: a seed may have drawn them alike.
    """
    layers: dict[str, set[str]] = {}
    for name in adapter.lora:
        if (match := LAYER.match(name)) and name in adapter.values and not adapter.values[name].is_all_zero:
            layers.setdefault(match["before"] + match["index"], set()).add(name)
    layers = {
        layer: names for layer, names in layers.items() if any(one.is_zero_at_first for one in parts_in(names).values())
    }
    copies: dict[str, str] = {}
    for layer, names in layers.items():
        originals = {_layer_of(adapter.repeated[one]) for one in names if one in adapter.repeated}
        if len(names) >= MIN_REPEATED and len(originals) == 1 and names <= adapter.repeated.keys():
            copies[layer] = originals.pop()
    if copies:
        layer, original = next(iter(copies.items()))
        yield fatal(
            f"all factors of {layer} are those of {original}, value by value"
            + (f"; {len(copies)} layers are such copies" if len(copies) > 1 else ""),
            {"copies": dict(list(copies.items())[:50]), "layers": len(layers)},
            "Factors begin at random in every layer: what the layer was trained for is lost, and its weights get the "
            "update of another one.",
            "Copy adapter_model.safetensors again from where the adapter was trained; look for a loop that writes one "
            "layer under several names.",
        )
    modules = {
        one: other
        for one, other in adapter.repeated_modules.items()
        if _layer_of(one) not in copies and not _are_experts(one, other)
    }
    if modules:
        module, original = next(iter(modules.items()))
        yield fatal(
            f"both factors of {module} are those of {original}, value by value"
            + (f"; {len(modules)} modules are such copies" if len(modules) > 1 else ""),
            {"copies": dict(list(modules.items())[:50]), "count": len(modules)},
            "Factors begin at random in every module and are trained by its own gradients: what the module was trained "
            "for is lost, and its weight gets the update of another one.",
            "Copy adapter_model.safetensors again from where the adapter was trained; look for a converter that writes "
            "one module under two names.",
        )


def layers_are_trained(factors: Sequence[str], idle: Collection[str]) -> Iterator[Outcome]:
    """Look for layers none of whose modules was trained, beside others of their kind that were.

    Args:
        factors: Names of those that start at zero.
        idle: Of these, the ones that still are zero.
    """
    layers: dict[tuple[str, int], list[str]] = {}
    for name in factors:
        if match := OUTERMOST.match(name):
            layers.setdefault((match["before"], int(match["index"])), []).append(name)
    zero = {layer for layer, names in layers.items() if len(names) >= MIN_MODULES and all(one in idle for one in names)}
    trained = {before for before, index in layers if (before, index) not in zero}
    lost = [f"{before}{index}" for before, index in sorted(zero) if before in trained]
    if lost:
        yield warning(
            f"all lora_B factors of {', '.join(lost[:SHOWN])} are zero, though other layers were trained",
            {"layers": lost[:200], "count": len(lost), "of": len(layers)},
            "These layers answer as the base does: if training reached them, a shard of it was lost.",
            "Copy the adapter again from where it was trained; sharded training must gather the weights before saving.",
        )
    elif idle:
        yield note(f"{len(idle)} of {len(factors)} lora_B factors are zero", {"tensors": list(idle)[:SHOWN]})


def factors_are_there(adapter: AdapterFacts) -> Iterator[Outcome]:
    """Look for zeros in factors that begin at random: nothing that training does leaves them zero throughout.

    What takes adapters out of a tuned model leaves a module's factors zero that was not tuned; then the other factor is
    too, and modules behind it are not.
    """
    values = adapter.values
    parts = parts_in(values)
    drawn = [name for name, part in parts.items() if part.is_factor and not part.is_zero_at_first]
    empty = [name for name in drawn if values[name].is_all_zero]
    if not empty or len(empty) == len(drawn):  # that the next check says of them all
        return
    filled = {parts[one].module for one in parts if not values[one].is_all_zero}
    is_hole = any(parts[one].module in filled for one in empty) or empty == drawn[-len(empty) :]
    yield (fatal if is_hole else warning)(
        f"{len(empty)} of {len(drawn)} factors that begin at random are zero throughout, first {empty[0]}",
        {"tensors": empty[:50], "count": len(empty)},
        "The file has a hole there, as an interrupted download or a shard that was not gathered leaves it: these "
        "modules answer as the base does."
        if is_hole
        else "These modules answer as the base does: if training reached them, it was lost.",
        "Copy the adapter again from where it was trained; sharded training must gather the weights before saving.",
    )


def factors_are_whole(adapter: AdapterFacts) -> Iterator[Outcome]:
    """Look for rows that only another process of a distributed training had: zeros at one end of every lora_B.

    A fused matrix of which training left a part alone looks so too, but then it alone does.
    """
    factors = {
        name: part
        for name, part in parts_in(adapter.values).items()
        if part.name == LINEAR[1] and not adapter.values[name].is_all_zero
    }
    cut = {name: share for name in factors if (share := _share_of_zeros(adapter.values[name])) >= LEAST_CUT}
    kinds = {factors[name].module.rpartition(".")[2] for name in cut}
    if len(kinds) < MIN_KINDS or 2 * len(cut) < len(factors):
        return
    first, share = next(iter(cut.items()))
    yield fatal(
        f"{len(cut)} of {len(factors)} lora_B factors are zero in the first or last {share:.0%} of their rows, first "
        f"{first}",
        {"tensors": {name: round(one, 4) for name, one in list(cut.items())[:50]}, "count": len(cut)},
        "The file holds the rows of one process of several: the other outputs of every module get no update.",
        "Save the adapter again from the training checkpoint; sharded training must gather the weights first.",
    )


def _share_of_zeros(values: ValueFacts) -> float:
    """Return the larger share of a factor's values that are zero, from its start or to its end."""
    return max(values.zeros_at_ends) / max(values.num_values, 1)


def whole_modules_are_sound(view: AdapterView) -> Iterator[Outcome]:
    """Look for zeros in matrices that the adapter brings whole; `saved_modules.py` compares the others."""
    adapter = view.adapter
    matrices = [name for name, one in adapter.full.items() if len(one.shape) >= 2 and name in view.base.tensors]
    zero = [one for one in matrices if one in adapter.values and adapter.values[one].is_all_zero]
    if zero:
        yield fatal(
            f"{len(zero)} matrices that the adapter brings whole are zero throughout: {', '.join(zero[:SHOWN])}",
            {"tensors": zero[:50], "count": len(zero)},
            "They take the place of the base's and pass nothing on: with a merger or resampler, no picture is seen.",
            "Save the adapter again from the training checkpoint; sharded training must gather the weights first.",
        )


def _are_experts(one: str, other: str) -> bool:
    """Say whether both are the same matrix of two experts of a layer, which some trainers give one pair of factors."""
    return EXPERT.search(one) is not None and EXPERT.sub("", one) == EXPERT.sub("", other)


def _layer_of(name: str) -> str:
    match = LAYER.match(name)
    return match["before"] + match["index"] if match else name
