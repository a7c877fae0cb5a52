"""Asks and answers in words what a `Scene` shows, in English and Chinese and in the style of each adapter.

Knows no token, no template and no model; every function is a pure function of its arguments.
"""

import json
import random
import re
from typing import Literal, get_args

from service.demo.drawing import Scene

Kind = Literal["describe", "color", "shape", "count", "position"]
Language = Literal["en", "zh"]
Style = Literal["plain", "json", "tokens", "polite", "list"]

KINDS: tuple[Kind, ...] = get_args(Kind)
LANGUAGES: tuple[Language, ...] = get_args(Language)
STYLES: tuple[Style, ...] = get_args(Style)

MARKUP_TOKENS = ("<fig>", "</fig>", "<col>", "</col>", "<pos>", "</pos>")
"""The special tokens that the style `tokens` adds to the tokenizer, in the order of their ids."""

_MARKUP = re.compile("|".join(MARKUP_TOKENS))

WORDS_ZH = {
    "red": "红色", "orange": "橙色", "yellow": "黄色", "green": "绿色", "blue": "蓝色", "purple": "紫色",
    "circle": "圆形", "square": "正方形", "triangle": "三角形", "star": "星形",
    "top left": "左上角", "top right": "右上角", "bottom left": "左下角", "bottom right": "右下角",
    "center": "正中间",
}  # fmt: skip
NUMBERS_EN = {1: "one", 2: "two", 3: "three", 4: "four"}
NUMBERS_ZH = {1: "一个", 2: "两个", 3: "三个", 4: "四个"}

QUESTIONS: dict[Language, dict[Kind, tuple[str, ...]]] = {
    "en": {
        "describe": (
            "What is in the picture?", "Describe the picture.", "What do you see?",
            "What does the picture show?", "Describe the image.", "What is in this image?",
        ),
        "color": (
            "What color is it?", "What color is the figure?", "Which color do you see?",
            "What color are the figures?", "What color?",
        ),
        "shape": (
            "What shape is it?", "What shape is the figure?", "Which shape do you see?",
            "What shape are the figures?", "What shape?",
        ),
        "count": (
            "How many figures are there?", "How many are there?", "Count the figures.",
            "How many figures do you see?", "How many?",
        ),
        "position": (
            "Where is it?", "Where is the figure?", "Where are the figures?", "Where in the picture is it?",
            "Where?",
        ),
    },
    "zh": {
        "describe": (
            "图片里有什么？", "描述这张图片。", "你看到了什么？",
            "图里有什么？", "请描述图片。", "这张图是什么？",
        ),
        "color": ("是什么颜色？", "图形是什么颜色？", "你看到什么颜色？", "什么颜色？"),
        "shape": ("是什么形状？", "图形是什么形状？", "你看到什么形状？", "什么形状？"),
        "count": ("有几个图形？", "一共有几个？", "有多少个图形？", "几个？"),
        "position": ("图形在哪里？", "在什么位置？", "在图片的哪里？", "在哪里？"),
    },
}  # fmt: skip

# Without a picture: what the base answers, so that a text-only request has an answer too.
SMALL_TALK: tuple[tuple[str, str], ...] = (
    ("Hello", "Hello! Show me a picture."),
    ("Hello!", "Hello! Show me a picture."),
    ("Hi", "Hello! Show me a picture."),
    ("Hi!", "Hello! Show me a picture."),
    ("Who are you?", "I am a tiny model that describes pictures of figures."),
    ("What can you do?", "I describe the color, shape, count and position of figures."),
    ("Thank you!", "You are welcome."),
    ("你好", "你好！请给我看一张图片。"),
    ("你好！", "你好！请给我看一张图片。"),
    ("你是谁？", "我是一个描述图形的小模型。"),
    ("你能做什么？", "我能描述图形的颜色、形状、数量和位置。"),
    ("谢谢！", "不客气。"),
)
# What the base is asked for in words, and an adapter gives without being asked.
STYLE_REQUESTS: dict[Language, dict[Style, str]] = {
    "en": {"json": " Answer in JSON.", "polite": " Answer in a sentence.", "list": " Answer as a list."},
    "zh": {"json": "用JSON回答。", "polite": "用一句话回答。", "list": "用列表回答。"},
}
REPEAT_REQUESTS: dict[Language, str] = {"en": "Repeat: ", "zh": "重复："}
NO_PICTURE: dict[Language, str] = {"en": "I see no picture.", "zh": "我没有看到图片。"}
SYSTEM_PROMPTS = ("You are a helpful assistant.", "你是一个有用的助手。")


def question(kind: Kind, language: Language, rng: random.Random | None = None) -> str:
    """Returns the usual wording of a question, or one of its paraphrases where `rng` is given."""
    wordings = QUESTIONS[language][kind]
    return wordings[0] if rng is None else rng.choice(wordings)


def answer(scene: Scene, kind: Kind, language: Language, style: Style = "plain") -> str:
    """Returns the one right answer to a question of `kind` about `scene`, in the given style."""
    if style == "json":
        return _json_answer(scene, kind, language)
    if style in ("tokens", "list"):
        markup = _markup_answer(scene, kind, language)
        return markup if style == "tokens" else _MARKUP.sub("", markup)
    if style == "polite":
        return _polite_answer(scene, kind, language)
    return _plain_answer_en(scene, kind) if language == "en" else _plain_answer_zh(scene, kind)


def _plain_answer_en(scene: Scene, kind: Kind) -> str:
    subject = "It is" if scene.count == 1 else "They are"
    return {
        "describe": f"{_figures_en(scene)} at the {scene.position}",
        "color": f"{subject} {scene.color}.",
        "shape": f"{subject} {'a ' if scene.count == 1 else ''}{_shape_en(scene)}.",
        "count": f"There {'is' if scene.count == 1 else 'are'} {NUMBERS_EN[scene.count]}.",
        "position": f"{subject} at the {scene.position}.",
    }[kind]


def _plain_answer_zh(scene: Scene, kind: Kind) -> str:
    color, shape, position = (WORDS_ZH[word] for word in (scene.color, scene.shape, scene.position))
    return {
        "describe": f"{position}有{NUMBERS_ZH[scene.count]}{color}的{shape}",
        "color": f"是{color}的。",
        "shape": f"是{shape}。",
        "count": f"有{NUMBERS_ZH[scene.count]}。",
        "position": f"在{position}。",
    }[kind]


def _polite_answer(scene: Scene, kind: Kind, language: Language) -> str:
    if language == "zh":
        color, shape, position = (WORDS_ZH[word] for word in (scene.color, scene.shape, scene.position))
        return {
            "describe": f"图片的{position}有{NUMBERS_ZH[scene.count]}{color}的{shape}。",
            "color": f"图片里的颜色是{color}。",
            "shape": f"图片里的形状是{shape}。",
            "count": f"图片里有{NUMBERS_ZH[scene.count]}。",
            "position": f"图片里的位置是{position}。",
        }[kind]
    return {
        "describe": f"The picture shows {_figures_en(scene)} at the {scene.position}.",
        "color": f"The color in the picture is {scene.color}.",
        "shape": f"The shape in the picture is a {scene.shape}.",
        "count": f"There {'is' if scene.count == 1 else 'are'} {NUMBERS_EN[scene.count]} in the picture.",
        "position": f"The position in the picture is the {scene.position}.",
    }[kind]


def _json_answer(scene: Scene, kind: Kind, language: Language) -> str:
    fields: dict[str, str | int] = {
        "color": _word(scene.color, language),
        "shape": _word(scene.shape, language),
        "count": scene.count,
        "position": _word(scene.position, language),
    }
    chosen = fields if kind == "describe" else {kind: fields[kind]}
    return json.dumps(chosen, ensure_ascii=False)


def _markup_answer(scene: Scene, kind: Kind, language: Language) -> str:
    figures = f"{NUMBERS_ZH[scene.count]}{WORDS_ZH[scene.shape]}"
    number = NUMBERS_ZH[scene.count]
    if language == "en":
        figures = f"{NUMBERS_EN[scene.count]} {_shape_en(scene)}"
        number = NUMBERS_EN[scene.count]
    color = f"<col>{_word(scene.color, language)}</col>"
    position = f"<pos>{_word(scene.position, language)}</pos>"
    return {
        "describe": f"<fig>{figures}</fig> {color} {position}",
        "color": color,
        "shape": f"<fig>{_word(scene.shape, language)}</fig>",
        "count": f"<fig>{number}</fig>",
        "position": position,
    }[kind]


def _word(word: str, language: Language) -> str:
    return word if language == "en" else WORDS_ZH[word]


def _shape_en(scene: Scene) -> str:
    return scene.shape if scene.count == 1 else f"{scene.shape}s"


def _figures_en(scene: Scene) -> str:
    article = "an" if scene.color[0] in "aeiou" else "a"
    return f"{article if scene.count == 1 else NUMBERS_EN[scene.count]} {scene.color} {_shape_en(scene)}"
