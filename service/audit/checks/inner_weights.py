"""Check of the weights beside the vocabulary matrices: are they as training left them, and as this model takes them?

Knows no origin; `origin.py` compares with one. NaN, infinity and zeros are `weights.py`'s matter.
"""

from collections.abc import Collection, Iterator

from service.audit.check import BaseView, Check, Outcome, fatal, warning
from service.audit.checks.weights import LAST
from service.audit.layers import by_layer, layer_of
from service.audit.odd_norms import OddNorms, odd_norms
from service.audit.row_states import UNRELATED
from service.audit.tensors_in_use import tensors_in_use
from service.audit.untrained_parts import untrained_parts
from service.domain.facts import BaseFacts, ChannelFacts, SampleFacts

SHOWN = 3
MOST_LISTED = 50
ROUGH, SMOOTH, CLEARLY = 0.25, 0.4, 0.3
"""Correlation of neighbouring pixels: trained kernels have 0.7, such in another order at most a little, noise none."""
MATCHED = 0.3
"""Correlation of a channel's row and kernel: of the demo's layers at least 0.9, by chance 0.05 among 384 channels."""
FEWEST_CHANNELS = 256
CODE_DEVIATION = 1.0
"""Weights spread by hundredths; codes without their scales by tens."""
RECIPE = "mergekit_config.yml"
LONG_RUN = 4
"""As many layers in a row are taken twice on purpose, to make a deeper model."""
COPY = "Copy the tensors again from the checkpoint that was trained"
WHY = """\
A folder can be whole, every shape right and every row of the vocabulary trained, while a part of it does not hold what
training wrote. A loader fills what it finds no tensor for with random numbers, says so in a warning, and the next
`save_pretrained()` writes them: norms of exactly one, biases of exactly zero, matrices that look like one draw, in a
model that is trained everywhere else. A conversion takes codes of 8 bits for numbers and drops their scales; it takes
one from the weights of norms for a runtime that adds one, writes decays for their logarithms, or keeps the order of
another framework for the kernel that looks at pixels, or of Qwen3-Next for the projection of linear attention; a script
that copies layers takes one of them twice.

What can be told without the model that it was before is told from the rest of the folder. A matrix counts as drawn only
if its values have the form of a normal or uniform distribution and all of its rows and columns are as long as those of
one draw; a kernel only if its values are smooth in another order and not in their own; codes only if they are as large
as codes. The rows of a projection must, in every layer, be as long as the kernels behind them ask for in another order,
and not in their own: training lengthens both together. Models that are random throughout, norms that were folded into
the matrices behind them, weights that were rounded to 8 bits and scaled back, and layers that a deepened model repeats
on purpose are left alone. Of large tensors some rows are read.

Source: Llama Pro (Wu et al., 2024) for repeated layers; llama.cpp's conversion of Qwen3-Next for norms less one."""


def base_inner_weights(view: BaseView) -> Iterator[Outcome]:
    """Look at parts, norms, kernels, layers and codes."""
    base = view.base
    strange = {one for one, change in view.origin.changed.items() if change.turn > UNRELATED} if view.origin else set()
    if sum(name in strange for name in base.inner.samples) > len(base.inner.samples) / 2:
        return  # it is another model, which `origin` says
    yield from _never_trained(base, strange)
    yield from (_odd(one) for one in odd_norms(base))
    yield from _reordered(base)
    yield from _regrouped(base)
    yield from _decays(base)
    yield from _taken_twice(base)
    yield from _codes(base)


def _never_trained(base: BaseFacts, strange: Collection[str]) -> Iterator[Outcome]:
    """Find parts that were made up; `origin` says so of those that have nothing in common with it."""
    parts = [one for one in untrained_parts(base) if not all(name in strange for name in one.matrices)]
    if not parts:
        return
    first, matrices = parts[0], [one for part in parts for one in part.matrices]
    samples = [base.inner.samples[one] for one in first.matrices]
    low, high = (f"{pick(one.deviation for one in samples):.3g}" for pick in (min, max))
    beside = f", its {len(first.vectors)} norms and biases are exactly one or zero" if first.vectors else ""
    which = f"{first.name} was" if len(parts) == 1 else f"{len(parts)} parts were"
    yield fatal(
        f"{which} never trained{f', first {first.name}' if len(parts) > 1 else ''}: "
        f"{_counted(len(samples), 'matrix looks', 'matrices look')} like a random draw (deviation {low}"
        f"{f' to {high}' if low != high else ''}, rows and columns all alike){beside}, while {first.num_trained} "
        f"tensors of the model were trained{_use(base, first.name)}",
        {
            "parts": [one.name for one in parts[:MOST_LISTED]],
            "matrices": {one: _rounded(base.inner.samples[one].deviation) for one in matrices[:MOST_LISTED]},
            "vectors": [one for part in parts for one in part.vectors][:MOST_LISTED],
            "trained_elsewhere": first.num_trained,
        },
        "What passes through it becomes noise: answers that need it are wrong.",
        f"{COPY}, or from the base model if training left the part alone; a loader that did not find their names "
        "made them up, which it warns of.",
    )


def _use(base: BaseFacts, part: str) -> str:
    """Say which setting puts a part to use that another value would leave alone."""
    mode = base.documents.get("config.json", {}).get("downsample_mode", "16x")
    return f"; downsample_mode {mode} uses it" if part.endswith(".vit_merger") else ""


def _odd(odd: OddNorms) -> Outcome:
    kind = "one more than its weight" if odd.is_added else "its weight"
    what = (
        "make nearly every value larger, as if one had been added to their weights"
        if odd.is_raised
        else "turn the sign of many values, as if one had been taken from their weights"
    )
    least = "subtract one from" if odd.is_raised else "add one to"
    return (fatal if odd.is_certain else warning)(
        f"{len(odd.names)} of {odd.num_judged} norms {what}, such as {', '.join(odd.names[:SHOWN])}; this kind of norm "
        f"multiplies by {kind}",
        {"norms": list(odd.names[:MOST_LISTED]), "count": len(odd.names), "of": odd.num_judged},
        "Every layer reads its input at another scale than in training: answers are noise.",
        f"{COPY}; if a conversion for another runtime wrote them, {least} the weights of these norms again.",
    )


def _reordered(base: BaseFacts) -> Iterator[Outcome]:
    for name, one in base.inner.kernels.items():
        order, best = max(one.in_order.items(), key=lambda item: item[1])
        if one.smoothness > ROUGH or best < SMOOTH or best - one.smoothness < CLEARLY:
            continue
        yield fatal(
            f"the values of {name} stand in the order {order}: read so, neighbouring pixels correlate with {best:.2f}, "
            f"as they are with {one.smoothness:.2f}",
            {"tensor": name, "order": order, "correlation": _rounded(one.smoothness), "in_order": _rounded(best)},
            "The tower sees every patch scrambled: answers about pictures are wrong.",
            f"{COPY}, or move the values into the order (out, channels, height, width).",
        )


def _regrouped(base: BaseFacts) -> Iterator[Outcome]:
    """Find projections whose rows fit the kernels behind them in another order, in every layer, and not in their own.

    Training lengthens the row and the kernel of a channel together, so that no other order fits by chance.
    """
    layers = {name: one for name, one in base.inner.channels.items() if one.num_channels >= FEWEST_CHANNELS}
    if not layers:
        return
    first, one = next(iter(layers.items()))
    for order, best in one.in_order.items():
        if all(_fits_better(each, order) for each in layers.values()):
            yield fatal(
                f"the rows of {first} stand in the order of another model class, {order}: read so, the length of a "
                f"channel's row goes with that of its kernel in conv1d (correlation {best:.2f}), as they are it does "
                f"not ({one.likeness:.2f}){_and_others(len(layers) - 1)}",
                {
                    "order": order,
                    "correlation": {name: _rounded(each.likeness) for name, each in layers.items()},
                    "in_order": {name: _rounded(each.in_order[order]) for name, each in layers.items()},
                },
                "Linear attention takes keys and values for queries, and the reverse: answers are garbage.",
                f"{COPY}, or move the rows into the order: all queries, all keys, all values.",
            )
            return


def _fits_better(channels: ChannelFacts, order: str) -> bool:
    best = channels.in_order.get(order, 0.0)
    return best >= MATCHED and channels.likeness <= best / 2


def _and_others(count: int) -> str:
    return f"; {_counted(count, 'other layer shows', 'other layers show')} the same" if count else ""


def _decays(base: BaseFacts) -> Iterator[Outcome]:
    """Find logarithms of decays that a converted file holds as the decays themselves: less than zero, all of them.

    They are drawn from -4.6 to 2.8, nearly all above zero, and training moves each head by itself.
    """
    vectors = {name: one for name, one in base.inner.vectors.items() if name.endswith(".A_log")}
    if len(vectors) < 2 or not all(one.high < 0 for one in vectors.values()):
        return
    low, high = min(one.low for one in vectors.values()), max(one.high for one in vectors.values())
    yield fatal(
        f"all values of {len(vectors)} A_log, first {next(iter(vectors))}, are below zero ({low:.3g} to {high:.3g}): "
        "they are decays, not their logarithms",
        {"tensors": list(vectors)[:MOST_LISTED], "low": _rounded(low), "high": _rounded(high)},
        "Layers with linear attention forget at another speed than in training: answers lose what was said before.",
        f"{COPY}; if a conversion wrote -exp(A_log), write log(-value) again.",
    )


def _taken_twice(base: BaseFacts) -> Iterator[Outcome]:
    """Find layers that hold the matrices of an earlier one.

    Training never makes two matrices equal. Tools that deepen a model repeat layers on purpose: many in a row, with a
    recipe beside them, or with last matrices of zeros, so that they change nothing until they are trained. Tables that
    no parameter takes, such as saved sines and cosines, are the same in every layer.
    """
    unused = set(base.blueprint.unused) if base.blueprint else set()
    repeated = {
        name: first
        for name, first in base.inner.repeated.items()
        if name not in unused and layer_of(name) and layer_of(name) != layer_of(first) and ".experts." not in name
    }
    layers = {layer: names for layer, names in by_layer(repeated).items() if not _changes_nothing(base, layer)}
    if not layers:
        return
    is_meant = RECIPE in base.files or _longest_run(list(layers)) >= LONG_RUN
    names = [name for one in layers.values() for name in one]
    pairs = {layer: layer_of(repeated[names[0]]) for layer, names in layers.items()}
    shown = ", ".join(f"{layer} those of {first}" for layer, first in list(pairs.items())[:SHOWN])
    yield (warning if is_meant else fatal)(
        f"{_counted(len(names), 'matrix has', 'matrices have')} the very values of an earlier layer's: {shown}",
        {"layers": pairs, "tensors": names[:MOST_LISTED], "count": len(names)},
        "Training makes no two layers alike: what the later one had learned is gone, and a step is done twice.",
        f"{COPY}; if the model was deepened on purpose, accept this with a waiver.",
    )


def _changes_nothing(base: BaseFacts, layer: str) -> bool:
    last = [name for name in base.tensors if name.startswith(f"{layer}.") and LAST.search(name)]
    return bool(last) and all(name in base.inner.all_zero for name in last)


def _longest_run(layers: list[str]) -> int:
    """Count the layers of the longest row of neighbours."""
    longest, run, before = 0, 0, ("", -1)
    for layer in layers:
        stem, _, number = layer.rpartition(".")
        run = run + 1 if before == (stem, int(number) - 1) else 1
        longest, before = max(longest, run), (stem, int(number))
    return longest


def _codes(base: BaseFacts) -> Iterator[Outcome]:
    found = _code_tensors(base)
    if not found:
        return
    name, first = next(iter(found.items()))
    kind = "whole numbers" if first.grid == "integers" else f"numbers of {first.grid}"
    yield fatal(
        f"{_counted(len(found), 'matrix holds', 'matrices hold')} codes of 8 bits without their scales, first {name}: "
        f"nothing but {kind}, up to {first.largest:g}",
        {
            "tensors": {one: sample.grid for one, sample in list(found.items())[:MOST_LISTED]},
            "count": len(found),
            "deviation": _rounded(first.deviation),
        },
        "Weights are hundreds of times too large, each row by another factor: answers are noise.",
        f"{COPY} before it was quantised, or multiply the codes by their scales.",
    )


def _code_tensors(base: BaseFacts) -> dict[str, SampleFacts]:
    """Find matrices that hold codes of 8 bits as numbers, as if their scales were all one."""
    config = base.documents.get("config.json", {})
    if config.get("quantization_config") or config.get("compression_config"):
        return {}
    used = tensors_in_use(base)
    return {
        name: one
        for name, one in sorted(base.inner.samples.items())
        if name in used and one.grid is not None and one.deviation > CODE_DEVIATION
    }


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _rounded(number: float) -> float:
    return float(f"{number:.4g}")


CHECK = Check(
    "inner_weights",
    "Inner weights are as training left them",
    base_inner_weights,
    why=WHY,
)
