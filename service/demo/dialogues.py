"""Makes the conversations that the demo checkpoint learns from and is tested on.

Knows scenes and words, but no token and no tensor: pictures stay scenes until someone draws them.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from service.demo.drawing import COLORS, COUNTS, POSITIONS, SHAPES, Scene
from service.demo.phrasing import (
    KINDS,
    LANGUAGES,
    NO_PICTURE,
    NUMBERS_EN,
    NUMBERS_ZH,
    QUESTIONS,
    REPEAT_REQUESTS,
    SMALL_TALK,
    STYLE_REQUESTS,
    SYSTEM_PROMPTS,
    WORDS_ZH,
    Kind,
    Language,
    Style,
    answer,
    question,
)

Message = dict[str, Any]
Form = Literal["single", "follow-up", "text only", "repeat", "styled"]
Mix = tuple[tuple[Form, int], ...]
"""Forms of conversation and their shares in percent."""

# Each batch is of one mix, so that short conversations are not padded to the length of long ones.
MIXES: dict[Mix, int] = {
    (("single", 40), ("styled", 40), ("text only", 12), ("repeat", 8)): 80,
    (("follow-up", 100),): 20,
}
MIXES_OF_ADAPTERS: dict[Mix, int] = {(("single", 100),): 80, (("follow-up", 100),): 20}
# Shares of conversations.
_TEXT_FIRST = 0.15  # the question stands before the picture
_WITH_SYSTEM_PROMPT = 0.1
_DESCRIBED_FIRST = 0.7  # of two turns, the first asks for a description
_SMALL_TALK = 0.5  # without a picture: small talk, and not a question about the missing picture


@dataclass(frozen=True)
class Dialogue:
    """A conversation whose last answer is still to be given."""

    scenes: tuple[Scene, ...]
    messages: tuple[Message, ...]
    """In the form of `apply_chat_template`; picture items carry no picture, `scenes` has them in order."""
    answer: str
    task: str
    language: Language


def random_dialogue(rng: random.Random, style: Style = "plain", form: Form = "single") -> Dialogue:
    """Returns a conversation of the given form about random scenes, its questions paraphrased."""
    language = rng.choice(LANGUAGES)
    if form == "text only":
        return _text_only(rng, language)
    if form == "repeat":
        return _repeat(rng, language)
    scene = Scene.random(rng)
    if form == "follow-up":
        return _follow_up(rng, scene, language, style)
    kind = rng.choice(KINDS)
    asked = question(kind, language, rng)
    if form == "styled":
        style = rng.choice(list(STYLE_REQUESTS[language]))
        asked += STYLE_REQUESTS[language][style]
    messages = _perhaps_with_system(rng, _picture_turn(rng, asked))
    return Dialogue((scene,), messages, answer(scene, kind, language, style), kind, language)


def dialogue_about(scene: Scene, kind: Kind, language: Language, style: Style = "plain") -> Dialogue:
    """Returns the one-turn conversation that asks about `scene` in the usual wording."""
    messages = (_turn("user", question(kind, language), pictures=1),)
    return Dialogue((scene,), messages, answer(scene, kind, language, style), kind, language)


def vocabulary() -> Iterator[str]:
    """Yields every text of the task, words repeated so that each becomes one token."""
    words = [*COLORS, *SHAPES, *(f"{shape}s" for shape in SHAPES), *NUMBERS_EN.values()]
    words += [part for position in POSITIONS for part in position.split()]
    words += ["picture", "position", "shows", "user", "assistant", "system", '{"', '":', '",', '"}', "},"]
    for word in words:
        yield from [word, f" {word}"] * 8
    for word in [*WORDS_ZH.values(), *NUMBERS_ZH.values(), "图片", "的", "有"]:
        yield from [word] * 8
    for language in LANGUAGES:
        for wordings in QUESTIONS[language].values():
            yield from wordings * 2
    for remark, reply in SMALL_TALK:
        yield from [remark, reply] * 2
    yield from (*NO_PICTURE.values(), *SYSTEM_PROMPTS) * 2
    for count in COUNTS:
        for kind in KINDS:
            scene = Scene("red", "circle", count, "center")
            yield from (answer(scene, kind, "en", style) for style in ("plain", "json", "polite"))


def _follow_up(rng: random.Random, scene: Scene, language: Language, style: Style) -> Dialogue:
    first: Kind = "describe" if rng.random() < _DESCRIBED_FIRST else rng.choice(KINDS)
    second = rng.choice([kind for kind in KINDS if kind != first])
    messages = (
        _picture_turn(rng, question(first, language, rng)),
        _turn("assistant", answer(scene, first, language, style)),
        _turn("user", question(second, language, rng)),
    )
    return Dialogue((scene,), messages, answer(scene, second, language, style), "follow-up", language)


def _text_only(rng: random.Random, language: Language) -> Dialogue:
    if rng.random() < _SMALL_TALK:
        text, reply = rng.choice(SMALL_TALK)
    else:
        text, reply = question(rng.choice(KINDS), language, rng), NO_PICTURE[language]
    return Dialogue((), _perhaps_with_system(rng, _turn("user", text)), reply, "text only", language)


def _repeat(rng: random.Random, language: Language) -> Dialogue:
    """Returns a request to repeat an answer in an adapter's style.

    It lets the base write every token of those styles. A row of the head that was never a target cannot be
    told from its neighbours, and an adapter that leaves the head alone could not learn to write it.
    """
    text = answer(Scene.random(rng), rng.choice(KINDS), language, rng.choice(("json", "polite")))
    request = f"{REPEAT_REQUESTS[language]}{text}"
    return Dialogue((), (_turn("user", request),), text, "repeat", language)


def _turn(role: str, text: str, pictures: int = 0) -> Message:
    return {"role": role, "content": [{"type": "image"}] * pictures + [{"type": "text", "text": text}]}


def _picture_turn(rng: random.Random, text: str) -> Message:
    turn = _turn("user", text, pictures=1)
    if rng.random() < _TEXT_FIRST:
        turn["content"].reverse()
    return turn


def _perhaps_with_system(rng: random.Random, message: Message) -> tuple[Message, ...]:
    if rng.random() < _WITH_SYSTEM_PROMPT:
        return (_turn("system", rng.choice(SYSTEM_PROMPTS)), message)
    return (message,)
