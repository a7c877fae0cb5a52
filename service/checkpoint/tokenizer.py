"""Reads a tokenizer twice, raw and through transformers.

Does not know which ids the model expects.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

from service.checkpoint.blaming import blamed_part, described_parts
from service.checkpoint.documents import Documents
from service.checkpoint.soundness import (
    SHOWN,
    contradictions,
    is_byte_level,
    lossy_texts,
    unreachable_tokens,
    unreachable_words,
)
from service.checkpoint.template import render_template, template_files
from service.domain.facts import AddedToken, FileProblem, GoldenMismatch, TemplateFacts, TokenizerFacts
from service.domain.minicpmv import MODEL_TYPE, is_minicpm_o
from service.overlay import overlay
from service.wording import without_folders

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

FEW = 20
"""One ordinary token of so many may be unreachable without anything being to blame."""
MIN_MERGES = 100
"""Fewer have no order to speak of."""
FLAGS = ("single_word", "lstrip", "rstrip", "normalized")
"""Of added tokens: how the text around one is taken apart."""

SETTINGS_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.json")


class _Unreadable(Exception):
    """The tokenizer's files cannot be loaded; the arguments say which file and why."""


@dataclass(frozen=True, slots=True)
class TokenizerReading:
    """What a folder's tokenizer files hold; both facts are None if they are missing or cannot be read."""

    tokenizer: TokenizerFacts | None = None
    template: TemplateFacts | None = None
    problems: tuple[FileProblem, ...] = ()


def read_tokenizer(folder: Path, *, is_code_trusted: bool = False) -> TokenizerReading:
    """Describe the tokenizer of a folder and the chat template that it carries.

    Args:
        folder: Where its files are.
        is_code_trusted: Run the Python files that it names.
    """
    documents = Documents(folder)
    if not documents.has("tokenizer.json"):
        return TokenizerReading()
    for name in ("tokenizer.json", *SETTINGS_FILES):
        documents.json(name)
    if documents.problems:
        return TokenizerReading(problems=tuple(documents.problems))
    try:
        raw, loaded = _load(folder, is_code_trusted=is_code_trusted)
    except _Unreadable as error:
        return TokenizerReading(problems=(FileProblem(*error.args),))
    facts = _describe(documents, raw, loaded)
    model_type = documents.json("config.json").get("model_type")
    return TokenizerReading(
        facts, render_template(loaded, facts, template_files(folder, documents), model_type=model_type)
    )


def read_adapter_tokenizer(base: Path, adapter: Path) -> TokenizerReading:
    """Describe the tokenizer with which an adapter is served: the base's files with its own laid over them."""
    documents = Documents(adapter)  # as they are: laid over the base's, what cannot be read would not be seen
    for name in ("tokenizer.json", *SETTINGS_FILES):
        documents.json(name)
    if documents.problems:
        return TokenizerReading(problems=tuple(documents.problems))
    try:
        with overlay(base, adapter) as folder:
            return read_tokenizer(folder) if folder else TokenizerReading()
    except OSError as error:
        name = Path(str(error.filename)).name
        return TokenizerReading(problems=(FileProblem(name, f"cannot be read: {error.strerror}"),))


def as_served(folder: Path, *, is_code_trusted: bool = False) -> Any:
    """Load a folder's tokenizer through transformers, with the class that serves it.

    For MiniCPM-V 2.6, 4.0 and 4.5 that is none of AutoTokenizer's, which reads config.json to find one, knows no class
    of that type, and stumbles over 4.0's rotary settings. MiniCPM-o's tokenizer files are of the same kind; and where
    config.json is gone, what is wrong is that and not that the tokenizer names code.

    Raises:
        Exception: What transformers raises.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    documents = Documents(folder)
    config = documents.json("config.json")
    is_coded = is_minicpm_o(config) or (not config and "auto_map" in documents.json("tokenizer_config.json"))
    if config.get("model_type") == MODEL_TYPE or (is_coded and not is_code_trusted):
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=is_code_trusted)


def _load(folder: Path, *, is_code_trusted: bool) -> tuple[Any, Any]:
    from tokenizers import Tokenizer

    try:
        raw = Tokenizer.from_file(str(folder / "tokenizer.json"))
        raw.no_padding()
        raw.no_truncation()
    except BaseException as error:
        raise _unreadable("cannot be read", error) from error
    try:
        loaded = as_served(folder, is_code_trusted=is_code_trusted)
    except BaseException as error:
        raise _unreadable("cannot be loaded by transformers", error) from error
    if getattr(loaded, "backend_tokenizer", None) is None:
        raise _Unreadable("tokenizer.json", "is not what transformers loads: it takes a slow tokenizer instead")
    try:
        loaded.decode(loaded.encode("a", add_special_tokens=False))
    except Exception as error:  # settings of any type are taken over unseen
        said = without_folders(" ".join(str(error).split()))[:300]
        raise _Unreadable("tokenizer_config.json", f"makes transformers fail at the first text: {said}") from error
    return raw, loaded


def _unreadable(what: str, error: BaseException) -> _Unreadable:
    """Turn a library's error into ours; the Rust side also panics, which is no Exception.

    Raises:
        BaseException: The error itself, if it is an interrupt.
    """
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error
    file = "config.json" if "Validation" in type(error).__name__ else "tokenizer.json"  # read to find the class
    said = without_folders(" ".join(str(error).split()))[:300]
    return _Unreadable(file, f"{what}: {said or type(error).__name__}")


def _describe(documents: Documents, raw: Any, loaded: Any) -> TokenizerFacts:
    document, config = documents.json("tokenizer.json"), documents.json("tokenizer_config.json")
    dropout = _without_dropout(raw, loaded.backend_tokenizer)
    vocabulary = _vocabulary(document, raw)
    grown = {text: token_id for text, token_id in loaded.get_added_vocab().items() if text not in vocabulary}
    listed = [one for one in document.get("added_tokens") or [] if one["content"] in vocabulary]
    added = {
        one["content"]: AddedToken(
            vocabulary[one["content"]], bool(one.get("special")), tuple(flag for flag in FLAGS if one.get(flag))
        )
        for one in listed
    }
    named = {name: text for name, text in loaded.special_tokens_map.items() if isinstance(text, str)}
    plain = [text for text in GOLDEN_TEXTS if not any(token in text for token in added)]
    is_bytes = is_byte_level(document)
    sampled = unreachable_tokens if is_bytes else unreachable_words
    num_sampled, unreachable = sampled(raw, vocabulary, added)
    lossy = lossy_texts(raw, plain)
    blamed = ""
    if lossy or len(unreachable) * FEW > num_sampled:
        failing = lambda: len(lossy_texts(raw, plain)) + len(sampled(raw, vocabulary, added)[1])  # noqa: E731
        blamed = blamed_part(document, raw, failing, is_byte_level=is_bytes)
    declared = config.get("tokenizer_class")
    return TokenizerFacts(
        vocabulary=vocabulary,
        grown=grown,
        max_id=max([*vocabulary.values(), *grown.values()], default=-1),
        added=added,
        misplaced={one["content"]: one["id"] for one in listed if vocabulary[one["content"]] != one["id"]},
        named={name: loaded.backend_tokenizer.token_to_id(text) for name, text in named.items()},
        texts=named,
        mismatches=tuple(_compare(raw, loaded, (*GOLDEN_TEXTS, *(f"a{token}b" for token in added)))),
        golden={text: tuple(loaded.encode(text, add_special_tokens=False)) for text in plain},
        merges_digest=_merges_digest(document),
        declared_class=declared if isinstance(declared, str) else "",
        is_byte_level=is_bytes,
        contradictions=contradictions(config, documents.json("added_tokens.json"), vocabulary),
        lossy=lossy,
        num_sampled=num_sampled,
        num_unreachable=len(unreachable),
        unreachable=tuple(unreachable[:SHOWN]),
        front_ids=_front_ids(raw),
        around=_around(loaded),
        multiple=_multiple(loaded),
        disorder=_disorder(document),
        blamed=blamed,
        parts=described_parts(document),
        num_merges=_num_merges(document),
        splits_special=config.get("split_special_tokens") is True,
        dropout=round(dropout, 4),
    )


def _without_dropout(raw: Any, served: Any) -> float:
    """Let both readings keep all merges, so that each text has ids of its own; return what share was left out."""
    share: float = getattr(served.model, "dropout", None) or 0.0
    for model in (raw.model, served.model):
        if getattr(model, "dropout", None):
            model.dropout = None
    return share


def _vocabulary(document: Mapping[str, Any], raw: Any) -> dict[str, int]:
    """Return every token's id as the library has it, in an order that is the same at every run."""
    added = {token.content: token_id for token_id, token in sorted(raw.get_added_tokens_decoder().items())}
    written = document["model"].get("vocab")
    if isinstance(written, dict):  # as the library reads it, without asking it for 250,000 tokens in random order
        return {**written, **added}
    unordered: dict[str, int] = raw.get_vocab(with_added_tokens=True)
    return dict(sorted(unordered.items(), key=itemgetter(1)))


def _front_ids(raw: Any) -> tuple[int, ...]:
    """Return what the post-processor writes in front of a text."""
    with_special, plain = raw.encode("a").ids, raw.encode("a", add_special_tokens=False).ids
    place = next((index for index, one in enumerate(with_special) if one == plain[0]), 0) if plain else 0
    return tuple(with_special[:place])


def _around(loaded: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what is put before and behind a text that is encoded as processors encode a prompt."""
    whole, plain = loaded("a")["input_ids"], loaded.encode("a", add_special_tokens=False)
    places = range(len(whole) - len(plain) + 1) if plain else ()
    place = next((one for one in places if whole[one : one + len(plain)] == plain), None)
    return ((), ()) if place is None else (tuple(whole[:place]), tuple(whole[place + len(plain) :]))


def _multiple(loaded: Any) -> int:
    """Return the multiple of tokens to which processors fill texts up, from either file of the tokenizer.

    Processors of transformers pad whatever they encode, and take from the tokenizer what they are not given.
    """
    multiple = loaded.init_kwargs.get("pad_to_multiple_of")
    return multiple if isinstance(multiple, int) and multiple > 1 else 0


def _num_merges(document: Mapping[str, Any]) -> int | None:
    model = document.get("model") or {}
    merges = model.get("merges")
    return len(merges) if model.get("type", "BPE") == "BPE" and isinstance(merges, list) else None


def _compare(raw: Any, loaded: Any, texts: Iterable[str]) -> Iterable[GoldenMismatch]:
    for text in texts:
        raw_ids, loaded_ids = _both(raw, loaded, text)
        if raw_ids != loaded_ids:
            bare = _both(raw, loaded, text.strip(" "))
            yield GoldenMismatch(text, raw_ids, loaded_ids, text[:1] == " " and bare[0] == bare[1])


def _both(raw: Any, loaded: Any, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    ids = raw.encode(text, add_special_tokens=False).ids
    return tuple(ids), tuple(loaded.encode(text, add_special_tokens=False))


def _disorder(document: Mapping[str, Any]) -> float:
    """Return the share of merges whose result has a lower id than that of the merge before."""
    model = document.get("model") or {}
    vocabulary, merges = model.get("vocab"), model.get("merges") or []
    if not isinstance(vocabulary, dict) or len(merges) < MIN_MERGES:
        return 0.0
    made = [one.replace(" ", "", 1) if isinstance(one, str) else "".join(one) for one in merges]
    ids: list[int] = [vocabulary[one] for one in made if one in vocabulary]
    return sum(after < before for before, after in pairwise(ids)) / max(len(ids), 1)


def _merges_digest(document: Mapping[str, Any]) -> str:
    """Hash the merges, written as `"a b"` or as `["a", "b"]`."""
    merges = (document.get("model") or {}).get("merges") or []
    pairs = [one.split(" ", 1) if isinstance(one, str) else one for one in merges]
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16]
