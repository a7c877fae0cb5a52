"""Check of the loaded model: can an answer end.

Knows numbers only; how they are obtained is `engine.behaviour`'s matter.
"""

from collections.abc import Iterator

from service.audit.check import AdapterView, BaseView, Check, Outcome, fatal, note

IMPOSSIBLE = 1e-6
"""A model that knows nothing gives each of 250,000 tokens more."""
UNLIKELY = 1e-4
MUCH_LESS = 100
"""How much likelier the base must end, for an adapter to have lost it."""
WHY = """\
A model ends its answer by writing the stop token, which it must have learned. Collators that pad with the stop token
mask it out of the loss (`tok.pad_token = tok.eos_token`), LLaMA-Factory's template `empty` never writes it, and an
output row that was lost cannot win. Behind a finished greeting the probability of a stop token is read off; where it is
next to nothing, so are those behind finished answers of other forms (a word, JSON, Chinese), as a tuned model may know
one form only."""


def base_answer_ends(view: BaseView) -> Iterator[Outcome]:
    """Look at the base's own answers."""
    seen = view.loaded.behaviour if view.loaded else None
    if seen is None or seen.end_probability is None:
        return
    if seen.end_probability < IMPOSSIBLE and not seen.has_ended:  # so does a base that was never taught to chat
        yield note(
            f"behind a finished greeting the end has a probability of {seen.end_probability:.1g}, and behind answers "
            "of other forms it is no likelier",
            {"probability": seen.end_probability},
            "If the model was tuned to chat, its answers run on until max_new_tokens.",
            "Compare with the folder that it was tuned from, and look for the stop token in the labels of training.",
        )


def adapter_answer_ends(view: AdapterView) -> Iterator[Outcome]:
    """Look at an adapter's answers; one that answers in another form may end otherwise, but it must end."""
    seen = view.loaded.behaviour if view.loaded else None
    if seen is None or seen.end_probability is None or seen.end_probability >= UNLIKELY:
        return
    base = seen.base_end_probability or 0.0
    if seen.has_ended is False and base > MUCH_LESS * seen.end_probability:
        yield _endless(seen.end_probability)
    elif seen.has_ended:
        yield note(
            f"behind a finished greeting the end has a probability of {seen.end_probability:.1g}; answers of another "
            "form can end",
            {"probability": seen.end_probability},
        )


def _endless(probability: float) -> Outcome:
    return fatal(
        "with the adapter the model does not end its answers: behind a finished one a stop token has a probability of "
        f"{probability:.1g}",
        {"probability": probability},
        "Answers run on until max_new_tokens: it invents turns, or repeats itself.",
        "Retrain with the stop token in the labels: do not pad with it, and use the template that is served.",
    )


CHECK = Check("answer_ends", "An answer can end", base_answer_ends, adapter_answer_ends, needs_loaded=True, why=WHY)
