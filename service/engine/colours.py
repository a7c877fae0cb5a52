"""Asks a model for the colours of drawings, behind its prompts alone and with an empty thought behind them.

Judges nothing; the thread that owns the device calls it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL import Image, ImageDraw

from service.domain.facts import NamedColours
from service.domain.generation import Message, PictureRef
from service.engine.families.family import Encoder
from service.engine.thinking import EMPTY

NAMES = {"red": "红", "blue": "蓝", "green": "绿", "yellow": "黄"}
QUESTIONS = ("What color is it?", "这是什么颜色？")
MOST_TOKENS = 12
"""Of an answer."""
ENOUGH = 3
"""Of eight answers behind the prompts alone; if as many are right, nobody asks for the others."""


def named_colours(model: Any, encoder: Encoder, device: torch.device, stop_ids: Sequence[int]) -> NamedColours | None:
    """Count how often the first colour that an answer names is that of the drawing.

    Costs two answers of at most `MOST_TOKENS` tokens for each of eight drawings.

    Args:
        model: A transformers model that takes pictures.
        encoder: The encoder that its requests use; its prompts hold no thought.
        device: Where the model is.
        stop_ids: Ids that end an answer.

    Returns:
        None if enough is right behind the prompts alone, or a prompt cannot be answered.
    """
    empty = encoder.tokenizer.encode(EMPTY, add_special_tokens=False)
    try:
        asked = list(_prompts(encoder, device))
        without = 0
        for colour, prompt in asked:
            without += _named(model, encoder, prompt, stop_ids) == colour
            if without == ENOUGH:
                return None
        behind = sum(_named(model, encoder, _continued(one, empty), stop_ids) == colour for colour, one in asked)
    except torch.OutOfMemoryError:
        raise
    except (ValueError, RuntimeError, IndexError):  # the check of pictures says so
        return None
    return NamedColours(len(asked), without, behind)


def _prompts(encoder: Encoder, device: torch.device) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield colours, and the model's arguments for a question about a disc of each."""
    for question in QUESTIONS:
        for colour in NAMES:
            picture = Image.new("RGB", (112, 112), "white")
            ImageDraw.Draw(picture).ellipse((10, 10, 60, 60), fill=colour)
            yield colour, encoder.encode([Message("user", (PictureRef(0), question))], [picture]).on(device)


def _named(model: Any, encoder: Encoder, prompt: dict[str, Any], stop_ids: Sequence[int]) -> str | None:
    """Return the first colour that the most likely answer names; None if it names none."""
    settings = {"max_new_tokens": MOST_TOKENS, "do_sample": False, "pad_token_id": stop_ids[0]}
    with torch.inference_mode():
        written = model.generate(**prompt, **settings, eos_token_id=list(stop_ids))[0, prompt["input_ids"].shape[1] :]
    text = str(encoder.tokenizer.decode(written)).lower()
    places = {name: min(_places(text, (name, chinese)), default=-1) for name, chinese in NAMES.items()}
    found = {name: place for name, place in places.items() if place >= 0}
    return min(found, key=lambda name: found[name]) if found else None


def _places(text: str, words: Sequence[str]) -> Iterator[int]:
    yield from (text.index(one) for one in words if one in text)


def _continued(prompt: dict[str, Any], ids: Sequence[int]) -> dict[str, Any]:
    """Append tokens `(count,)` to a model's arguments."""
    old = prompt["input_ids"]
    more = {"input_ids": torch.cat([old, torch.tensor([list(ids)], device=old.device)], dim=1)}
    if "attention_mask" in prompt:
        mask = prompt["attention_mask"]
        more["attention_mask"] = torch.cat([mask, mask.new_ones(1, len(ids))], dim=1)
    return prompt | more
