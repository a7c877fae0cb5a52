"""Judges layers that hold the matrices of an earlier one.

Knows no origin.
"""

from collections.abc import Iterator

from service.audit.check import Outcome, fatal, warning
from service.audit.checks.inner_wording import COPY, MOST_LISTED, SHOWN, counted
from service.audit.checks.weights import LAST
from service.audit.layers import by_layer, layer_of
from service.domain.facts import BaseFacts

RECIPE = "mergekit_config.yml"
LONG_RUN = 4
"""As many layers in a row are taken twice on purpose, to make a deeper model."""


def layers_taken_twice(base: BaseFacts) -> Iterator[Outcome]:
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
        f"{counted(len(names), 'matrix has', 'matrices have')} the very values of an earlier layer's: {shown}",
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
