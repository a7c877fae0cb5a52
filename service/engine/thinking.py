"""Asks a model about thoughts: whether its prompts lack an empty one, and what it writes in one that they open.

Judges nothing; the thread that owns the device calls it.
"""

from collections.abc import Sequence
from typing import Any

import torch

from service.domain.facts import OpenThought
from service.domain.generation import Message
from service.engine.families.family import Encoder
from service.errors import InvalidField

OPEN, CLOSE = "<think>", "</think>"
EMPTY = f"{OPEN}\n\n{CLOSE}\n\n"
"""As the official templates of Qwen3, MiniCPM-V 4.5 and 4.6 write it where a model is not to think."""
MOST_TOKENS = 24
"""Of an answer within a thought; a model that thinks writes more, or closes it before."""
MOST_BEHIND = 3
"""Tokens from the opening to the prompt's end: the opening itself, and line breaks."""


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
    prompts = _prompts(encoder, questions)
    if not prompts or any(known[OPEN] in ids or known[CLOSE] in ids for ids in prompts):
        return None
    empty = tuple(encoder.tokenizer.encode(EMPTY, add_special_tokens=False))
    bare = [_certainty(model, ids, device) for ids in prompts]
    behind = [_certainty(model, ids + empty, device) for ids in prompts]
    return sum(bare) / len(bare), sum(behind) / len(behind)


def open_thought(
    model: Any, encoder: Encoder, device: torch.device, stop_ids: Sequence[int], questions: Sequence[str]
) -> OpenThought | None:
    """Let a model write a little, greedily, where its prompts end in a thought that they open.

    Args:
        model: A transformers model.
        encoder: The encoder that its requests use.
        device: Where the model is.
        stop_ids: Ids that end an answer.
        questions: All are asked at once; a pass for each token, at most `MOST_TOKENS`.

    Returns:
        None if a prompt opens no thought, or closes it.
    """
    known = encoder.tokenizer.get_vocab()
    prompts = _prompts(encoder, questions)
    if not prompts or not all(_is_left_open(ids, known[OPEN], known[CLOSE]) for ids in prompts):
        return None
    stops, close = frozenset(stop_ids), known[CLOSE]
    written: list[list[int]] = [[] for _ in prompts]
    open_ones, likeliest = list(range(len(prompts))), 0.0
    for _ in range(MOST_TOKENS):
        probabilities = _next(model, [(*prompts[one], *written[one]) for one in open_ones], device)
        likeliest = max(likeliest, float(probabilities[:, close].max()))
        for one, token in zip(open_ones, probabilities.argmax(-1).tolist(), strict=True):
            written[one].append(token)
        open_ones = [one for one in open_ones if written[one][-1] != close and written[one][-1] not in stops]
        if not open_ones:
            break
    lasts = [ids[-1] for ids in written]
    ended = [ids for ids in written if ids[-1] in stops and ids[-1] != close]
    return OpenThought(
        num_asked=len(prompts),
        num_ended=len(ended),
        num_closed=lasts.count(close),
        close_probability=likeliest,
        example=str(encoder.tokenizer.decode(ended[0][:-1])) if ended else "",
    )


def _prompts(encoder: Encoder, questions: Sequence[str]) -> list[tuple[int, ...]]:
    """Encode questions as requests are; none if there are no tokens for thoughts, or the model takes no text."""
    known = encoder.tokenizer.get_vocab()
    if OPEN not in known or CLOSE not in known:
        return []
    try:
        return [encoder.encode([Message("user", (one,))], []).prompt_ids for one in questions]
    except (InvalidField, ValueError):
        return []  # such as GOT-OCR; or its template takes no question


def _is_left_open(ids: Sequence[int], opening: int, closing: int) -> bool:
    last = {one: place for place, one in enumerate(ids) if one in (opening, closing)}
    return opening in last and len(ids) - last[opening] <= MOST_BEHIND and last.get(closing, -1) < last[opening]


def _next(model: Any, rows: Sequence[Sequence[int]], device: torch.device) -> torch.Tensor:
    """Return the probabilities `(rows, vocabulary)` of each row's next token; what pads a row stands behind it."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*one, *[one[-1]] * (longest - len(one))] for one in rows], device=device)
    ends = torch.tensor([len(one) - 1 for one in rows], device=device)
    with torch.inference_mode():
        output = model(input_ids=ids, use_cache=False)
    probabilities: torch.Tensor = output.logits[torch.arange(len(rows), device=device), ends].float().softmax(-1)
    return probabilities


def _certainty(model: Any, ids: Sequence[int], device: torch.device) -> float:
    with torch.inference_mode():
        output = model(input_ids=torch.tensor([list(ids)], device=device), use_cache=False)
    return float(output.logits[0, -1].float().softmax(-1).max())
