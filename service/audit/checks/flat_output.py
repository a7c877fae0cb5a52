"""Check of the loaded model: is it sure of anything.

Knows numbers only; how they are obtained is `engine.behaviour`'s matter.
"""

from collections.abc import Iterator

from service.audit.check import AdapterView, BaseView, Check, Outcome, fatal

FLAT = 0.02
"""A model that was trained is surer than this of some token of any conversation: the demos of more than 0.99."""
WHY = """\
A trained model knows how a turn begins, or what follows half a word: somewhere in a finished greeting one token gets
most of the probability. A head that was overwritten by the embeddings, norms that a conversion stored less one, or a
scale that was lost leave logits that are nearly the same for all tokens, and no file need say so. Models whose norms
are as they were made, one value throughout, were never trained; of them nothing is expected."""


def base_is_flat(view: BaseView) -> Iterator[Outcome]:
    """Look at the base's probabilities."""
    loaded = view.loaded
    certainty = loaded.behaviour.certainty if loaded and loaded.behaviour else None
    if loaded and loaded.has_trained_norms and certainty is not None and certainty < FLAT:
        yield fatal(
            f"the model is sure of nothing: in a finished greeting no token has a probability over {certainty:.2g}, "
            "though its norms were trained",
            {"largest_probability": certainty, "limit": FLAT},
            "Answers are random tokens and do not end.",
            "Head, norms or a whole part of the weights are not those that were trained together: name the folder that "
            "it was made from with --base, or convert and download it again.",
        )


def adapter_is_flat(view: AdapterView) -> Iterator[Outcome]:
    """Look at the probabilities with the adapter, unless the base's are no better."""
    seen = view.loaded.behaviour if view.loaded else None
    if seen is None or seen.certainty is None or seen.certainty >= FLAT:
        return
    if seen.base_certainty is not None and seen.base_certainty >= FLAT:
        yield fatal(
            f"with the adapter the model is sure of nothing: in a finished greeting no token has a probability over "
            f"{seen.certainty:.2g}; the base is sure of one with {seen.base_certainty:.2g}",
            {"largest_probability": seen.certainty, "base": seen.base_certainty, "limit": FLAT},
            "Answers are random tokens and do not end.",
            "A module that it saved whole, or its scale, does not fit this base: serve it on the base that it was "
            "trained on, and compare lora_alpha and r with the run's.",
        )


CHECK = Check(
    "flat_output", "The model is sure of some token", base_is_flat, adapter_is_flat, needs_loaded=True, why=WHY
)
