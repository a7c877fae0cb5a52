"""Judges what a tokenizer puts behind a prompt that the chat template has written: an end, or padding.

Knows no template: whatever it ends with, the answer begins there.
"""

from collections.abc import Iterator

from service.audit.check import Outcome, fatal, note
from service.domain.facts import BaseFacts, TokenizerFacts

PADDING = frozenset({"minicpmv4_6", "minicpmv4_7", "minicpm_ocr"})
"""Model types whose processors pad what they encode. Those of other types, GOT-OCR's among them, do not unless asked,
and then fill nothing up."""


def nothing_ends_the_prompt(
    base: BaseFacts, tokenizer: TokenizerFacts, known: TokenizerFacts | None, name: str
) -> Iterator[Outcome]:
    """Look at what the post-processor adds behind texts; what it adds in front is compared where there is an origin.

    Args:
        base: Of the model that is served. Models that see encode a rendered prompt as any text, special tokens added,
            in this service as in the processors of transformers; those for text alone encode it as it is.
        tokenizer: The base's or an adapter's.
        known: The tokenizer that training began with; None if there is none. What it adds, training saw.
        name: What to call the tokenizer.
    """
    added = tokenizer.around[1]
    if not added or (known and known.around[1] == added):
        return
    texts = {one.token_id: text for text, one in tokenizer.added.items()}
    shown = ", ".join(f"{texts[one]} (id {one})" if one in texts else f"id {one}" for one in added)
    said = f"the post_processor of {name} puts {shown} behind every text"
    evidence = {"behind": {str(one): texts.get(one) for one in added}, "post_processor": True}
    if _is_seeing(base):
        yield fatal(
            f"{said}, and so behind every prompt",
            evidence,
            "The prompt is closed where the answer should begin: the model goes on with another turn, or stops.",
            "Copy post_processor in tokenizer.json from the base model: minicpm-service repair --base BASE. A training "
            "script that needs the token behind its texts should add it there.",
        )
    else:
        yield note(
            f"{said}; chat prompts do not go through it",
            evidence,
            "Servers that complete plain text, or encode a rendered prompt as such, close it before the answer.",
        )


def nothing_fills_the_prompt(
    base: BaseFacts, tokenizer: TokenizerFacts, known: TokenizerFacts | None, name: str
) -> Iterator[Outcome]:
    """Look at whether the processor fills prompts up to a length that some hardware likes.

    Args:
        base: Of the model that is served; see `PADDING`.
        tokenizer: The base's or an adapter's.
        known: The tokenizer that training began with; None if there is none. How it fills texts, training saw.
        name: What to call the tokenizer.
    """
    multiple = tokenizer.multiple
    if not multiple or base.model_type not in PADDING or (known and known.multiple == multiple):
        return
    yield fatal(
        f"padding in {name} fills every prompt up to a multiple of {multiple} tokens (pad_to_multiple_of)",
        {"pad_to_multiple_of": multiple, "setting": "padding"},
        f"Up to {multiple - 1} tokens of padding stand before or behind every prompt, where training had none.",
        'Write "padding": null into tokenizer.json, and take pad_to_multiple_of out of tokenizer_config.json.',
    )


def _is_seeing(base: BaseFacts) -> bool:
    return isinstance(base.documents.get("config.json", {}).get("vision_config"), dict)
