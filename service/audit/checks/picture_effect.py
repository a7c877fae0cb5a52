"""Check of the loaded model: does a picture reach it and change its answer.

Knows numbers only; how they are obtained is `engine.behaviour`'s matter.
"""

from collections.abc import Iterator

from service.audit.check import AdapterView, BaseView, Check, Outcome, fatal
from service.domain.facts import BehaviourFacts

MIN_EFFECT = 1e-6
"""Share of the largest logit: two pictures that differ by less are not seen."""
WHY = """\
A picture goes through slicing, the vision tower and a connector before the language model reads it. A tower that was
not exported, a connector of next to zero, or a placeholder id that nobody looks for leaves all of it without effect,
and the answers fluent. A red and a blue picture must give different logits, and pictures of several sizes must get as
many placeholders as features."""


def base_picture_effect(view: BaseView) -> Iterator[Outcome]:
    """Look at what pictures do to the base."""
    yield from _seen(view.loaded.behaviour if view.loaded else None)


def adapter_picture_effect(view: AdapterView) -> Iterator[Outcome]:
    """Look at what pictures do with the adapter."""
    yield from _seen(view.loaded.behaviour if view.loaded else None)


def _seen(behaviour: BehaviourFacts | None) -> Iterator[Outcome]:
    if behaviour and behaviour.picture_error:
        yield fatal(
            f"a picture cannot be answered: {behaviour.picture_error}",
            {"error": behaviour.picture_error},
            "Every request with a picture of that shape fails.",
            "Compare the processor's settings with config.json: patch_size, downsample_mode, image_token_id.",
        )
    elif behaviour and behaviour.picture_effect is not None and behaviour.picture_effect < MIN_EFFECT:
        yield fatal(
            f"a red and a blue picture give the same logits, within {behaviour.picture_effect:.1g} of the largest",
            {"effect": behaviour.picture_effect, "limit": MIN_EFFECT},
            "Pictures are not seen: answers are invented.",
            "Copy vision tower and connector from the base, and the ids of placeholders from the tokenizer.",
        )


CHECK = Check(
    "picture_effect",
    "A picture changes the answer",
    base_picture_effect,
    adapter_picture_effect,
    needs_loaded=True,
    why=WHY,
)
