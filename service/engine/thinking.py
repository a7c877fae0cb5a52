"""Asks a model about thoughts: whether its prompts lack an empty one, and what ends within one that they open.

Judges nothing; the thread that owns the device calls it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jinja2 import TemplateError

from service.domain.facts import MissingThought, OpenThought
from service.domain.generation import Message
from service.engine.families.family import Encoder
from service.engine.heads import last_logits
from service.errors import InvalidField

OPEN, CLOSE = "<think>", "</think>"
EMPTY = f"{OPEN}\n\n{CLOSE}\n\n"
"""As the official templates of Qwen3, MiniCPM-V 4.5 and 4.6 write it where a model is not to think."""
MOST_BEHIND = 3
"""Tokens from the opening to the prompt's end: the opening itself, and line breaks."""
MOST_TOGETHER = 8192
"""Tokens of the one pass: where prompts are long, fewer questions are asked."""
FEWEST = 4
"""Questions, below which how answers begin says nothing."""


def missing_thought(
    model: Any, encoder: Encoder, device: torch.device, questions: Sequence[str]
) -> MissingThought | None:
    """Look at how answers begin, behind the prompts alone and behind an empty thought: one pass over all.

    Args:
        model: A transformers model.
        encoder: The encoder that its requests use.
        device: Where the model is.
        questions: Short ones; each is read twice.

    Returns:
        None if prompts hold a thought or are too long, or the vocabulary has no tokens for one.
    """
    known = encoder.tokenizer.get_vocab()
    prompts = _prompts(encoder, questions, MOST_TOGETHER // 2)
    if len(prompts) < FEWEST or any(known[OPEN] in ids or known[CLOSE] in ids for ids in prompts):
        return None
    empty = tuple(encoder.tokenizer.encode(EMPTY, add_special_tokens=False))
    rows = [*prompts, *((*ids, *empty) for ids in prompts)]
    read = _read(model, rows, device, min(map(len, prompts)) - 1)
    certainties, likeliest = zip(*(_last(one) for one in read), strict=True)
    beginnings = [str(encoder.tokenizer.decode([one])) for one in likeliest]
    count = len(prompts)
    return MissingThought(
        certainty=sum(certainties[:count]) / count,
        certainty_behind=sum(certainties[count:]) / count,
        beginnings=tuple(beginnings[:count]),
        beginnings_behind=tuple(beginnings[count:]),
    )


def open_thought(
    model: Any, encoder: Encoder, device: torch.device, stop_ids: Sequence[int], turns: Sequence[tuple[str, str]]
) -> OpenThought | None:
    """Let a model read finished answers in the thought that its prompts open and leave open: one pass over all.

    Args:
        model: A transformers model.
        encoder: The encoder that its requests use.
        device: Where the model is.
        stop_ids: Ids that end an answer.
        turns: Questions and answers.

    Returns:
        None if a prompt opens no thought, or closes it.
    """
    known = encoder.tokenizer.get_vocab()
    prompts = _prompts(encoder, [question for question, _ in turns], MOST_TOGETHER)
    if not prompts or not all(_is_left_open(ids, known[OPEN], known[CLOSE]) for ids in prompts):
        return None
    answers = [tuple(encoder.tokenizer.encode(answer, add_special_tokens=False)) for _, answer in turns]
    rows = [prompt + answer for prompt, answer in zip(prompts, answers, strict=False)]
    first = min(map(len, prompts)) - 1
    ends, closes = [], []
    for prompt, logits in zip(prompts, _read(model, rows, device, first), strict=True):
        read = logits[len(prompt) - 1 - first :].float().softmax(-1)
        stops = [one for one in stop_ids if one != known[CLOSE] and 0 <= one < read.shape[-1]]
        ends.append(float(read[-1, stops].sum()))
        closes.append(float(read[:, known[CLOSE]].max()))
    return OpenThought(max(ends), max(closes), example=turns[ends.index(max(ends))][1])


def _prompts(encoder: Encoder, questions: Sequence[str], most: int) -> list[tuple[int, ...]]:
    """Encode questions as requests are, the first ones of so many tokens at most.

    None if there are no tokens for thoughts, or the model takes no text.
    """
    known = encoder.tokenizer.get_vocab()
    if OPEN not in known or CLOSE not in known:
        return []
    try:
        prompts = [encoder.encode([Message("user", (one,))], []).prompt_ids for one in questions]
    except (InvalidField, ValueError, TemplateError):
        return []  # such as GOT-OCR; or its template takes no question
    return prompts[: most // max(map(len, prompts))]


def _is_left_open(ids: Sequence[int], opening: int, closing: int) -> bool:
    last = {one: place for place, one in enumerate(ids) if one in (opening, closing)}
    return opening in last and len(ids) - last[opening] <= MOST_BEHIND and last.get(closing, -1) < last[opening]


def _read(model: Any, rows: Sequence[Sequence[int]], device: torch.device, first: int) -> Iterator[torch.Tensor]:
    """Yield the logits `(tokens, vocabulary)` behind each token of each row, from one place on.

    What pads a row stands behind it.
    """
    longest = max(map(len, rows))
    ids = torch.tensor([[*one, *[one[-1]] * (longest - len(one))] for one in rows], device=device)
    with torch.inference_mode(), last_logits(model, longest - first):
        logits = model(input_ids=ids, use_cache=False).logits
    begin = first - (longest - logits.shape[1])
    for one, row in zip(logits, rows, strict=True):
        yield one[begin : begin + len(row) - first]


def _last(logits: torch.Tensor) -> tuple[float, int]:
    """Return the largest probability behind the last token, and whose it is."""
    value, token_id = logits[-1].float().softmax(-1).max(-1)
    return float(value), int(token_id)
