"""Checks the decays of linear attention: logarithms, and neither the decays themselves nor these with a minus sign.

Part of `finite_weights`; knows the three forms in which libraries keep one number.
"""

from collections.abc import Iterator
from statistics import median

from service.audit.check import Outcome, fatal
from service.domain.facts import InnerFacts

HIGHEST, LOWEST = 5.0, -2.0
"""Median of logarithms of decays. They begin between 0 and 16, so that half of the logarithms are over 2 and none is
over 2.8; training moves them by tenths. The demo's median is 2.1."""
SHOWN = 5


def decays(inner: InnerFacts) -> Iterator[Outcome]:
    """Look at the decays of all layers together: those of one may well be slow."""
    found = inner.decays
    if not found:
        return
    middle = median(one for _, one, _ in found.values())
    is_negative = all(high < 0 for _, _, high in found.values()) and middle < LOWEST
    is_plain = all(low >= 0 for low, _, _ in found.values()) and middle > HIGHEST
    if not (is_negative or is_plain):
        return
    low, high = min(one for one, _, _ in found.values()), max(one for _, _, one in found.values())
    form = "-exp(A_log)" if is_negative else "exp(A_log)"
    yield fatal(
        f"the decays of {len(found)} layer(s) hold {form} where A_log belongs: values from {low:.3g} to {high:.3g}, "
        f"median {middle:.3g}, in {', '.join(list(found)[:SHOWN])}",
        {"tensors": list(found)[:50], "count": len(found), "low": low, "median": middle, "high": high},
        "Linear attention forgets nothing, or everything at once: answers are noise after a few words.",
        "Copy these tensors from the model that was converted, or convert again: the logarithm of the decay's size is "
        "stored.",
    )
