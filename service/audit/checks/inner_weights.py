"""Check of the weights beside the vocabulary matrices: are they as training left them, and as this model takes them?

Knows no origin; `origin.py` compares with one. Kernels, repeated layers and what a conversion left are judged in
`kernel_orders.py`, `repeated_layers.py` and `unconverted.py`. NaN, infinity and zeros are `weights.py`'s matter.
"""

from collections.abc import Collection, Iterator

from service.audit.check import BaseView, Check, Outcome, fatal, warning
from service.audit.checks.inner_wording import COPY, MOST_LISTED, SHOWN, counted, rounded
from service.audit.checks.kernel_orders import kernels_in_another_order, rows_in_another_order
from service.audit.checks.repeated_layers import layers_taken_twice
from service.audit.checks.unconverted import codes_without_scales, decays_for_their_logarithms
from service.audit.odd_norms import OddNorms, odd_norms
from service.audit.row_states import UNRELATED
from service.audit.untrained_parts import untrained_parts
from service.domain.facts import BaseFacts

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
    yield from kernels_in_another_order(base)
    yield from rows_in_another_order(base)
    yield from decays_for_their_logarithms(base)
    yield from layers_taken_twice(base)
    yield from codes_without_scales(base)


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
        f"{counted(len(samples), 'matrix looks', 'matrices look')} like a random draw (deviation {low}"
        f"{f' to {high}' if low != high else ''}, rows and columns all alike){beside}, while {first.num_trained} "
        f"tensors of the model were trained{_use(base, first.name)}",
        {
            "parts": [one.name for one in parts[:MOST_LISTED]],
            "matrices": {one: rounded(base.inner.samples[one].deviation) for one in matrices[:MOST_LISTED]},
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


CHECK = Check(
    "inner_weights",
    "Inner weights are as training left them",
    base_inner_weights,
    why=WHY,
)
