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
from service.errors import InvalidField

OPEN, CLOSE = "<think>", "</think>"
EMPTY = f"{OPEN}\n\n{CLOSE}\n\n"
"""As the official templates of Qwen3, MiniCPM-V 4.5 and 4.6 write it where a model is not to think."""
MOST_BEHIND = 3
"""Tokens from the opening to the prompt's end: the opening itself, and line breaks."""
MOST_TOGETHER = 1024
"""Tokens of one pass, if a row is not longer: with a vocabulary of 250,000 their logits take a gigabyte in float32."""


def missing_thought(
    model: Any, encoder: Encoder, device: torch.device, questions: Sequence[str]
) -> MissingThought | None:
    """Look at how answers begin, behind prompts alone and behind an empty thought: one pass, where prompts are short.

    Args:
        model: A transformers model.
        encoder: The encoder that its requests use.
        device: Where the model is.
        questions: Short ones; each is read twice.

    Returns:
        None if prompts hold a thought, or the vocabulary has no tokens for one.
    """
    known = encoder.tokenizer.get_vocab()
    prompts = _prompts(encoder, questions)
    if not prompts or any(known[OPEN] in ids or known[CLOSE] in ids for ids in prompts):
        return None
    empty = tuple(encoder.tokenizer.encode(EMPTY, add_special_tokens=False))
    rows = [*prompts, *((*ids, *empty) for ids in prompts)]
    certainties, likeliest = zip(*(_last(one) for one in _read(model, rows, device)), strict=True)
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
    """Let a model read finished answers in the thought that its prompts open and leave open: as few passes as can be.

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
    prompts = _prompts(encoder, [question for question, _ in turns])
    if not prompts or not all(_is_left_open(ids, known[OPEN], known[CLOSE]) for ids in prompts):
        return None
    answers = [tuple(encoder.tokenizer.encode(answer, add_special_tokens=False)) for _, answer in turns]
    rows = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    ends, closes = [], []
    for prompt, logits in zip(prompts, _read(model, rows, device), strict=True):
        read = logits[len(prompt) - 1 :].float().softmax(-1)
        stops = [one for one in stop_ids if one != known[CLOSE] and 0 <= one < read.shape[-1]]
        ends.append(float(read[-1, stops].sum()))
        closes.append(float(read[:, known[CLOSE]].max()))
    return OpenThought(max(ends), max(closes), example=turns[ends.index(max(ends))][1])


def _prompts(encoder: Encoder, questions: Sequence[str]) -> list[tuple[int, ...]]:
    """Encode questions as requests are; none if there are no tokens for thoughts, or the model takes no text."""
    known = encoder.tokenizer.get_vocab()
    if OPEN not in known or CLOSE not in known:
        return []
    try:
        return [encoder.encode([Message("user", (one,))], []).prompt_ids for one in questions]
    except (InvalidField, ValueError, TemplateError):
        return []  # such as GOT-OCR; or its template takes no question


def _is_left_open(ids: Sequence[int], opening: int, closing: int) -> bool:
    last = {one: place for place, one in enumerate(ids) if one in (opening, closing)}
    return opening in last and len(ids) - last[opening] <= MOST_BEHIND and last.get(closing, -1) < last[opening]


def _read(model: Any, rows: Sequence[Sequence[int]], device: torch.device) -> Iterator[torch.Tensor]:
    """Yield the logits `(tokens, vocabulary)` behind each token of each row; what pads a row stands behind."""
    longest = max(map(len, rows))
    count = max(1, MOST_TOGETHER // longest)
    for first in range(0, len(rows), count):
        some = rows[first : first + count]
        ids = torch.tensor([[*one, *[one[-1]] * (longest - len(one))] for one in some], device=device)
        with torch.inference_mode():
            output = model(input_ids=ids, use_cache=False)
        for one, row in zip(output.logits, some, strict=True):
            yield one[: len(row)]


def _last(logits: torch.Tensor) -> tuple[float, int]:
    """Return the largest probability behind the last token, and whose it is."""
    value, token_id = logits[-1].float().softmax(-1).max(-1)
    return float(value), int(token_id)
