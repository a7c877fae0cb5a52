"""Checks of what the loaded model does: a few forward passes, measured by the engine.

Knows numbers only; how they are obtained is `engine.measuring`'s matter.
"""

import math
from collections.abc import Iterator

from service.audit.check import AdapterView, Outcome, fatal, note
from service.audit.checks.adapter_lineage import LEAST_EFFECT, LEAST_UPDATE, barely_moves
from service.audit.checks.adapters import lost_parameters
from service.domain.facts import AdapterFacts

MIN_EFFECT = 1e-4
"""Logits of the probe in float32 differ by less than this only through rounding."""


def adapter_effect(view: AdapterView) -> Iterator[Outcome]:
    """Compare the probe's logits with the adapter and without it."""
    loaded = view.loaded
    if loaded is None or loaded.error or not loaded.is_output_finite or not math.isfinite(loaded.effect):
        return
    if lost_parameters(view.adapter, loaded) or loaded.unexpected_keys:
        return  # adapter_applied says so, and what is left says nothing about the adapter
    if loaded.effect < MIN_EFFECT and _trains_tokens_only(view.adapter):
        yield note(
            "the adapter trains rows of tokens only, which the probe's question does not hold",
            {"largest_difference": loaded.effect},
        )
    elif loaded.effect >= MIN_EFFECT and (moved := barely_moves(view)):
        module, share = moved
        yield fatal(
            f"the adapter has hardly any effect: logits move by at most {loaded.effect_share:.2g} of the largest, and "
            f"its factors (lora_B times lora_A) change no weight by more than {share:.2g} of its size ({module})",
            {
                "effect_share": loaded.effect_share,
                "effect_limit": LEAST_EFFECT,
                "update_share": share,
                "update_limit": LEAST_UPDATE,
                "module": module,
            },
            "Every answer is the base's but for ties: lora_B has hardly left zero, where training begins.",
            "Train longer or with a larger learning rate (LoRA needs about ten times that of full tuning), take a "
            "later checkpoint, and compare lora_alpha with the training's arguments.",
        )
    elif loaded.effect < MIN_EFFECT:
        yield fatal(
            f"with the adapter the logits differ from the base's by at most {loaded.effect:.2g}",
            {"largest_difference": loaded.effect, "limit": MIN_EFFECT},
            "The adapter changes nothing: every answer is the base's.",
            "Its tensors are zero or were not applied: read the findings of adapter_applied and finite_weights.",
        )
    else:
        yield note(f"the adapter moves logits by up to {loaded.effect:.3g}", {"largest_difference": loaded.effect})


def _trains_tokens_only(adapter: AdapterFacts) -> bool:
    updates = [one for one in (adapter.embedding_update, adapter.head_update) if one and one.kind == "trainable_tokens"]
    return bool(updates) and len(adapter.lora) + len(adapter.full) == len(updates)
