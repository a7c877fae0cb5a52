"""Judges what a tokenizer puts behind a prompt that the chat template has written.

Knows no template: whatever it ends with, the answer begins there.
"""

from collections.abc import Iterator

from service.audit.check import Outcome, fatal, note
from service.domain.facts import BaseFacts, TokenizerFacts


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
    if isinstance(base.documents.get("config.json", {}).get("vision_config"), dict):
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
