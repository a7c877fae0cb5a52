"""Judges values that a conversion left as another format or runtime takes them: codes, decays.

Knows no origin. Norms that are off by one are `odd_norms.py`'s matter.
"""

from collections.abc import Iterator

from service.audit.check import Outcome, fatal
from service.audit.checks.inner_wording import COPY, MOST_LISTED, counted, rounded
from service.audit.tensors_in_use import tensors_in_use
from service.domain.facts import BaseFacts, SampleFacts

CODE_DEVIATION = 1.0
"""Weights spread by hundredths; codes without their scales by tens."""


def decays_for_their_logarithms(base: BaseFacts) -> Iterator[Outcome]:
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
        {"tensors": list(vectors)[:MOST_LISTED], "low": rounded(low), "high": rounded(high)},
        "Layers with linear attention forget at another speed than in training: answers lose what was said before.",
        f"{COPY}; if a conversion wrote -exp(A_log), write log(-value) again.",
    )


def codes_without_scales(base: BaseFacts) -> Iterator[Outcome]:
    """Find matrices of codes of 8 bits."""
    found = _code_tensors(base)
    if not found:
        return
    name, first = next(iter(found.items()))
    kind = "whole numbers" if first.grid == "integers" else f"numbers of {first.grid}"
    yield fatal(
        f"{counted(len(found), 'matrix holds', 'matrices hold')} codes of 8 bits without their scales, first {name}: "
        f"nothing but {kind}, up to {first.largest:g}",
        {
            "tensors": {one: sample.grid for one, sample in list(found.items())[:MOST_LISTED]},
            "count": len(found),
            "deviation": rounded(first.deviation),
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
