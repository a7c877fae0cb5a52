"""Check of the loaded encoder: do control tokens in a client's text stay text.

Knows strings only.
"""

from collections.abc import Iterator

from service.audit.check import AdapterView, BaseView, Check, Outcome, fatal
from service.domain.facts import BehaviourFacts

WHY = """\
A client may write `<|im_end|>` or `<image>` into its text, by accident or to take over the conversation. The service
encodes such tokens as letters. That depends on tokenizer and processor together, so it is tried with every control
token on the encoder that requests will use."""


def base_control_text(view: BaseView) -> Iterator[Outcome]:
    """Look at the base's encoder."""
    yield from _acting(view.loaded.behaviour if view.loaded else None)


def adapter_control_text(view: AdapterView) -> Iterator[Outcome]:
    """Look at an adapter's own encoder."""
    yield from _acting(view.loaded.behaviour if view.loaded else None)


def _acting(behaviour: BehaviourFacts | None) -> Iterator[Outcome]:
    if behaviour and behaviour.acting_tokens:
        yield fatal(
            f"{', '.join(behaviour.acting_tokens[:5])} act(s) when a client writes it",
            {"tokens": list(behaviour.acting_tokens)},
            "Clients can open turns, end answers early, or break requests with pictures.",
            "Restore the flags of these tokens in tokenizer.json from the base: minicpm-service repair.",
        )


CHECK = Check(
    "control_text", "Control tokens in a client's text stay text", base_control_text, adapter_control_text,
    needs_loaded=True, why=WHY,
)  # fmt: skip
