"""Checks of what the loaded model does: a few forward passes, measured by the engine.

Knows numbers only; how they are obtained is `engine.measuring`'s matter.
"""

from collections.abc import Iterator

from service.audit.check import AdapterView, Outcome, fatal, note

MIN_EFFECT = 1e-4
"""Logits of the probe in float32 differ by less than this only through rounding."""


def adapter_effect(view: AdapterView) -> Iterator[Outcome]:
    """Compare the probe's logits with the adapter and without it."""
    loaded = view.loaded
    if loaded is None or loaded.error or not loaded.is_output_finite:
        return
    if loaded.effect < MIN_EFFECT:
        yield fatal(
            f"with the adapter the logits differ from the base's by at most {loaded.effect:.2g}",
            {"largest_difference": loaded.effect, "limit": MIN_EFFECT},
            "The adapter changes nothing: every answer is the base's.",
            "Its tensors are zero or were not applied: read the findings of adapter_applied and finite_weights.",
        )
    else:
        yield note(f"the adapter moves logits by up to {loaded.effect:.3g}", {"largest_difference": loaded.effect})
