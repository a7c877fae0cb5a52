"""Asks a model whether an empty thought, which its prompts lack, makes it surer of how an answer begins.

Judges nothing; the thread that owns the device calls it.
"""

from collections.abc import Sequence
from typing import Any

import torch

from service.domain.generation import Message
from service.engine.families.family import Encoder
from service.errors import InvalidField

OPEN, CLOSE = "<think>", "</think>"
EMPTY = f"{OPEN}\n\n{CLOSE}\n\n"
"""As the official templates of Qwen3, MiniCPM-V 4.5 and 4.6 write it where a model is not to think."""


def thought_certainty(
    model: Any, encoder: Encoder, device: torch.device, questions: Sequence[str]
) -> tuple[float, float] | None:
    """Return how likely the likeliest first token of an answer is, behind the prompt alone and behind an empty thought.

    Args:
        model: A transformers model.
        encoder: The encoder that its requests use.
        device: Where the model is.
        questions: Over which the mean is taken; two short passes each.

    Returns:
        None if prompts hold a thought, or the vocabulary has no tokens for one.
    """
    known = encoder.tokenizer.get_vocab()
    if OPEN not in known or CLOSE not in known:
        return None
    try:
        prompts = [encoder.encode([Message("user", (one,))], []).prompt_ids for one in questions]
    except (InvalidField, ValueError):
        return None  # a model that takes no text, such as GOT-OCR; or its template takes no question
    if any(known[OPEN] in ids or known[CLOSE] in ids for ids in prompts):
        return None
    empty = tuple(encoder.tokenizer.encode(EMPTY, add_special_tokens=False))
    bare = [_certainty(model, ids, device) for ids in prompts]
    behind = [_certainty(model, ids + empty, device) for ids in prompts]
    return sum(bare) / len(bare), sum(behind) / len(behind)


def _certainty(model: Any, ids: Sequence[int], device: torch.device) -> float:
    with torch.inference_mode():
        output = model(input_ids=torch.tensor([list(ids)], device=device), use_cache=False)
    return float(output.logits[0, -1].float().softmax(-1).max())
