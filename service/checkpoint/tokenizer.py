"""Reads a tokenizer twice, raw and through transformers, and renders its chat template.

Does not know which ids the model expects.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.domain.facts import AddedToken, FileProblem, GoldenMismatch, TemplateFacts, TokenizerFacts

GOLDEN_TEXTS = (
    "Hello, world!",
    " leading and trailing  spaces ",
    "line one\nline two\r\n\n\ttabbed",
    "What is in the picture?",
    "图里有什么？请用一句话回答。",
    "左上角有一个红色的圆形，右边是３个蓝色方块。",
    "日本語のテキストと한국어 텍스트",
    "naïve café Ångström ﬁne",
    "e\u0301 versus \u00e9",
    "emoji 👩‍👩‍👧‍👦 🇨🇳 ✅",
    "def f(x):\n    return x ** 2  # comment",
    '{"total": 12.50, "items": ["a", "b"]}',
    "1234567890 3.14159 1,000,000",
    "don't can't I'm you've",
    "https://example.com/a?b=c&d=e#f",
    "$E = mc^2$ and \\frac{a}{b}",
    "ALLCAPS camelCase snake_case kebab-case",
    "\u200bzero\u200bwidth",
    "a" * 40,
    "مرحبا بالعالم שלום עולם",
)
"""Fixed strings on which both readings must agree; the added tokens of the tokenizer are tried besides."""

ANSWER = "ANSWER7"
CONVERSATIONS: tuple[list[dict[str, Any]], ...] = (
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
    [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "你好"},
    ],
    [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}],
)
FINISHED: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": ANSWER}]

TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")


class _Unreadable(Exception):
    """The tokenizer's files cannot be loaded; the message says why."""


@dataclass(frozen=True, slots=True)
class TokenizerReading:
    """What a folder's tokenizer files hold; both facts are None if they are missing or cannot be read."""

    tokenizer: TokenizerFacts | None = None
    template: TemplateFacts | None = None
    problems: tuple[FileProblem, ...] = ()


def read_tokenizer(folder: Path) -> TokenizerReading:
    """Describe the tokenizer of a folder and the chat template that it carries."""
    if not (folder / "tokenizer.json").is_file():
        return TokenizerReading()
    try:
        raw, loaded = _load(folder)
    except _Unreadable as error:
        return TokenizerReading(problems=(FileProblem("tokenizer.json", str(error)),))
    document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    added = {
        one["content"]: AddedToken(int(one["id"]), bool(one.get("special")))
        for one in document.get("added_tokens") or []
    }
    vocabulary = raw.get_vocab(with_added_tokens=True)
    named = _named_tokens(loaded)
    facts = TokenizerFacts(
        raw_size=len(vocabulary),
        tokenizer_size=len(loaded),
        max_id=max([*vocabulary.values(), *loaded.get_vocab().values()], default=-1),
        added=added,
        named={name: loaded.get_vocab().get(text) for name, text in named.items()},
        texts=named,
        mismatches=tuple(_compare(raw, loaded, (*GOLDEN_TEXTS, *(f"a{token}b" for token in added)))),
        vocabulary_digest=_vocabulary_digest(document),
    )
    return TokenizerReading(facts, _render(loaded, added))


def unreachable_byte_ids(folder: Path) -> list[int]:
    """Find ids of single bytes that valid UTF-8 never contains (0xC0, 0xC1, 0xF5 to 0xFF).

    No text produces them, so their rows show what an untrained row looks like.
    Source: "Fishing for Magikarp" (Land and Bartolo, 2024), section on known-unused tokens.
    """
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")).get("model", {}).get("vocab")
    if not isinstance(vocabulary, dict):
        return []
    impossible = (0xC0, 0xC1, *range(0xF5, 0x100))
    names = [*(_byte_level_name(one) for one in impossible), *(f"<0x{one:02X}>" for one in impossible)]
    return [int(vocabulary[name]) for name in names if name in vocabulary]


def _load(folder: Path) -> tuple[Any, Any]:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    try:
        raw = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the Rust side raises bare Exception
        raise _Unreadable(f"tokenizer.json cannot be read: {error}") from error
    raw.no_padding()
    raw.no_truncation()
    try:
        loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # any library error here means that the service could not load it either
        raise _Unreadable(f"transformers cannot load the tokenizer: {_first_line(error)}") from error
    return raw, loaded


def _named_tokens(loaded: Any) -> dict[str, str]:
    named = {name: text for name, text in loaded.special_tokens_map.items() if isinstance(text, str)}
    return {name: str(text) for name, text in named.items()}


def _compare(raw: Any, loaded: Any, texts: Iterable[str]) -> Iterable[GoldenMismatch]:
    for text in texts:
        raw_ids = tuple(raw.encode(text, add_special_tokens=False).ids)
        loaded_ids = tuple(loaded.encode(text, add_special_tokens=False))
        if raw_ids != loaded_ids:
            yield GoldenMismatch(text, raw_ids, loaded_ids)


def _vocabulary_digest(document: Mapping[str, Any]) -> str:
    """Hash what decides ids, indifferent to key order and to how merges are written."""
    model = document.get("model") or {}
    merges = [one if isinstance(one, str) else " ".join(one) for one in model.get("merges") or []]
    parts = {
        "vocab": model.get("vocab"),
        "merges": merges,
        "normalizer": document.get("normalizer"),
        "pre_tokenizer": document.get("pre_tokenizer"),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _render(loaded: Any, added: Mapping[str, AddedToken]) -> TemplateFacts:
    if not loaded.chat_template:
        return TemplateFacts(False, {}, None, None, None)
    rendered: list[str] = []
    error = None
    for conversation in CONVERSATIONS:
        try:
            rendered.append(loaded.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True))
        except Exception as problem:  # a template is a program: it may raise anything
            has_picture = any(isinstance(message["content"], list) for message in conversation)
            if not has_picture:
                error = error or _first_line(problem)
    try:
        finished = loaded.apply_chat_template(FINISHED, tokenize=False, add_generation_prompt=False)
    except Exception as problem:
        return TemplateFacts(True, {}, None, None, error or _first_line(problem))
    text = "".join([*rendered, finished])
    tokens = {token: one.token_id for token, one in added.items() if token in text}
    turn_end = _first_token_after(finished.partition(ANSWER)[2], tokens)
    return TemplateFacts(True, tokens, turn_end, tokens.get(turn_end) if turn_end else None, error)


def _first_token_after(text: str, tokens: Mapping[str, int]) -> str | None:
    stripped = text.lstrip()
    starting = [token for token in tokens if stripped.startswith(token)]
    return max(starting, key=len, default=None)


def _byte_level_name(byte: int) -> str:
    """Name a byte as GPT-2's byte-level alphabet does; for bytes from 0xAE on that is the Latin-1 character."""
    return chr(byte)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
