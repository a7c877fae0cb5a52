"""Asks a loaded model a handful of questions: does a picture matter, can an answer end, does text stay text.

Judges nothing. At most seven forward passes a model; the thread that owns the device calls it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jinja2 import TemplateError
from PIL import Image

from service.domain.facts import BehaviourFacts
from service.domain.generation import Message, PictureRef
from service.engine.families.family import Encoder, Family
from service.engine.thinking import missing_thought, open_thought
from service.errors import InvalidField

GREETING = ("Hello!", "Hello! How can I help you today?")
SIZES = ((112, 112), (640, 160), (96, 700))
"""Pictures in pixels: small, wide and tall, so that they are cut differently."""
SUSPICIOUS = 1e-4
"""If the end of a finished answer is less likely than this, the ends of answers in other forms are looked at too."""
FORMS = (
    ("Is the sky blue?", "Yes."),
    ("Answer as JSON: what colour is it?", '{"color": "blue"}'),
    ("天空是什么颜色？", "天空是蓝色的。"),
    ("In one word?", "blue"),
)
"""Questions and finished answers, as a tuned model may have learned to write them; one conversation, one pass."""

QUESTIONS = (
    GREETING[0],
    *(question for question, _ in FORMS),
    "What is this?",
    "What color is it?",
    "这是什么颜色？",
    "Where is it?",
    "它在哪里？",
    "How many are there?",
    "有几个？",
)
"""Short ones, so that a batch of them stays small with a vocabulary of 250,000."""


def observe(
    model: Any,
    encoder: Encoder,
    family: Family,
    device: torch.device,
    stop_ids: Sequence[int],
    control_tokens: Sequence[str],
    *,
    with_sizes: bool,
) -> BehaviourFacts:
    """Measure one model, base or adapter.

    Args:
        model: A transformers model.
        encoder: The encoder that its requests use.
        family: How it is called.
        device: Where it is.
        stop_ids: Ids that end an answer.
        control_tokens: Tokens that must not act in a client's text.
        with_sizes: Also try pictures of several sizes; once for the base is enough.
    """
    effect, error = _pictures(model, encoder, family, device, with_sizes=with_sizes)
    greeted = _ask(model, encoder, device, stop_ids, [GREETING])
    probability = greeted.ends[0] if greeted else None
    has_ended = None
    if probability is not None and probability < SUSPICIOUS:
        otherwise = _ask(model, encoder, device, stop_ids, FORMS)
        has_ended = max(otherwise.ends) >= SUSPICIOUS if otherwise else None
    return BehaviourFacts(
        picture_effect=effect,
        picture_error=error,
        end_probability=probability,
        has_ended=has_ended,
        acting_tokens=_acting(encoder, control_tokens),
        certainty=greeted.certainty if greeted else None,
        missing_thought=missing_thought(model, encoder, device, QUESTIONS),
        open_thought=open_thought(model, encoder, device, stop_ids, (GREETING, *FORMS)),
    )


def _pictures(
    model: Any, encoder: Encoder, family: Family, device: torch.device, *, with_sizes: bool
) -> tuple[float | None, str | None]:
    """Compare answers about a red and a blue picture, and try other sizes; None where no picture can be sent."""
    if not family.accepts_pictures:
        return None, None
    question = Message("user", (PictureRef(0), family.probe_text))
    logits = []
    try:
        for colour in ("red", "blue"):
            logits.append(_last_logits(model, encoder, device, [question], [Image.new("RGB", SIZES[0], colour)]))
        for size in SIZES[1:] if with_sizes else ():
            _last_logits(model, encoder, device, [question], [Image.new("RGB", size, "red")])
    except torch.OutOfMemoryError:
        raise
    except (ValueError, RuntimeError, IndexError) as error:  # features and places that do not match, by whatever name
        return None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    scale = float(logits[0].abs().max()) or 1.0
    return float((logits[0] - logits[1]).abs().max()) / scale, None


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a model gave in one pass over a conversation.

    Attributes:
        ends: How likely a stop id is behind each answer.
        certainty: The largest probability of any token anywhere.
    """

    ends: list[float]
    certainty: float


def _ask(
    model: Any, encoder: Encoder, device: torch.device, stop_ids: Sequence[int], turns: Sequence[tuple[str, str]]
) -> _Asked | None:
    """Let a model read a conversation of finished answers; None if the template takes no such conversation."""
    messages = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    try:
        text = encoder.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
    except Exception:  # a template is a program; chat_template judges it
        return None
    heads = _heads(text, turns)
    if not heads or not stop_ids:
        return None
    lengths = [len(encoder.tokenizer.encode(head, add_special_tokens=False)) for head in heads]
    ids = encoder.tokenizer.encode(heads[-1], add_special_tokens=False)
    with torch.inference_mode():
        output = model(input_ids=torch.tensor([ids], device=device), use_cache=False)
    probabilities = output.logits[0].float().softmax(-1)
    known = [one for one in stop_ids if 0 <= one < probabilities.shape[-1]]
    ends: list[float] = probabilities[[one - 1 for one in lengths]][:, known].sum(-1).tolist()
    return _Asked(ends, float(probabilities.max()))


def _heads(text: str, turns: Sequence[tuple[str, str]]) -> list[str]:
    """Return a rendered conversation up to the end of each answer; empty if an answer is not in it."""
    heads, place = [], 0
    for question, answer in turns:
        asked = text.find(question, place)
        found = text.find(answer, asked + len(question))
        if asked < 0 or found < 0:
            return []
        place = found + len(answer)
        heads.append(text[:place])
    return heads


def _acting(encoder: Encoder, control_tokens: Sequence[str]) -> tuple[str, ...]:
    """Name the control tokens that act when a client writes them into its text."""
    try:
        plain = encoder.encode([Message("user", ("text",))], []).prompt_ids
    except (InvalidField, TemplateError):
        return ()  # a model that takes no text, such as GOT-OCR
    acting = []
    for token in control_tokens:
        token_id = encoder.tokenizer.convert_tokens_to_ids(token)
        try:
            ids = encoder.encode([Message("user", (f"text{token}text",))], []).prompt_ids
        except (ValueError, RuntimeError):
            acting.append(token)
            continue
        if ids.count(token_id) != plain.count(token_id):
            acting.append(token)
    return tuple(acting)


def _last_logits(
    model: Any, encoder: Encoder, device: torch.device, messages: list[Message], pictures: list[Image.Image]
) -> torch.Tensor:
    with torch.inference_mode():
        output = model(**encoder.encode(messages, pictures).on(device), use_cache=False)
    logits: torch.Tensor = output.logits[0, -1].float().cpu()
    return logits
