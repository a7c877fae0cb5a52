"""Counts how often tokens occur in conversations that an operator gives, rendered as they would be served.

Does not know which tokens are good or bad. Bounded in lines, in bytes and in time; what is cut off is said.
"""

import ctypes
import json
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from service.checkpoint.locating import Location
from service.checkpoint.tokenizer import as_served
from service.domain.facts import CheckpointFacts, CorpusFacts, TemplateFacts, TokenExposure
from service.errors import CheckpointUnreadable
from service.overlay import overlay
from service.wording import without_folders

MAX_CONVERSATIONS = 20_000
MAX_LINE_BYTES = 4_000_000
MAX_ARRAY_BYTES = 256_000_000
MAX_SECONDS = 30.0
GRACE_SECONDS = 5.0
SHOWN = 10
ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "function_call", "tool_response"), "tool"),
}
"""Role names of the formats in use, and the template's name for them."""
ANSWERS = ("answer", "response", "completion", "output", "chosen")
QUESTIONS = ("prompt", "instruction", "question", "query")
PICTURES = ("image", "image_url", "input_image", "video", "video_url")
"""Types of content parts that stand for a picture."""


class _Unusable(Exception):
    """One line is no conversation; the argument says why."""


@dataclass(slots=True)
class _Counts:
    """What is known so far."""

    num_conversations: int = 0
    num_tokens: int = 0
    conversations: Counter[int] = field(default_factory=Counter)
    written: Counter[int] = field(default_factory=Counter)
    total: Counter[int] = field(default_factory=Counter)
    skipped: list[tuple[int, str]] = field(default_factory=list)
    num_skipped: int = 0
    is_cut: bool = False

    def skip(self, line: int, reason: str) -> None:
        self.num_skipped += 1
        if len(self.skipped) < SHOWN:
            self.skipped.append((line, reason))


@dataclass(frozen=True, slots=True)
class _Conversation:
    """Messages for a template, or text that needs none; and what of it the model is to write."""

    messages: list[dict[str, Any]]
    text: str
    answers: list[str]


def read_corpus(path: Path, folder: Path, ids: Collection[int], turn_end_id: int | None = None) -> CorpusFacts:
    """Render every conversation of a file through a folder's template and count tokens.

    Args:
        path: JSON lines, or one JSON array, of `{"messages"}`, `{"conversations"}`, `{"prompt", "answer"}` or
            `{"text"}`.
        folder: Where the tokenizer is.
        ids: Tokens that matter beside the added ones.
        turn_end_id: The token that ends every answer.

    Raises:
        CheckpointUnreadable: The file cannot be read, or none of its lines can be used.
    """
    counts = _Counts()
    lines = _lines(path)
    tokenizer = _tokenizer(folder)
    counted = {*ids, *tokenizer.get_added_vocab().values()}
    thread = threading.Thread(
        target=_count_all, args=(lines, tokenizer, turn_end_id, counts), name="corpus", daemon=True
    )
    thread.start()
    thread.join(MAX_SECONDS + GRACE_SECONDS)
    if thread.is_alive() and thread.ident is not None:  # ends a loop of the template at its next step
        counts.is_cut = True
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
    if counts.num_conversations == 0:
        first = f"; line {counts.skipped[0][0]} {counts.skipped[0][1]}" if counts.skipped else ""
        raise CheckpointUnreadable(f"the corpus {path.name!r} holds no conversation that can be used{first}")
    return CorpusFacts(
        name=path.name,
        num_conversations=counts.num_conversations,
        num_tokens=counts.num_tokens,
        tokens={
            one: TokenExposure(
                counts.conversations[one], max(0, counts.total[one] - counts.written[one]), counts.written[one]
            )
            for one in sorted(counted)
            if counts.total[one] or counts.written[one]
        },
        skipped=tuple(counts.skipped),
        num_skipped=counts.num_skipped,
        is_cut=counts.is_cut,
    )


def count_corpus(
    path: Path, facts: CheckpointFacts, base: Location, adapters: Mapping[str, Location]
) -> CheckpointFacts:
    """Count a corpus for the base, and for every adapter as its own tokenizer files, laid over the base's, read it.

    Raises:
        CheckpointUnreadable: As `read_corpus` says.
    """
    ids = facts.base.embedding.rows.keys() if facts.base.embedding else ()
    mine = _turn_end(facts.base.template)
    of_base = read_corpus(path, base.folder, ids, mine) if facts.base.tokenizer else None
    counted = {}
    for adapter_id, adapter in facts.adapters.items():
        corpus = of_base
        if adapter.tokenizer and adapter_id in adapters:
            with overlay(base.folder, adapters[adapter_id].folder) as folder:
                if folder:
                    turn_end = _turn_end(adapter.template)
                    corpus = read_corpus(path, folder, {*ids, *adapter.new_tokens.values()}, turn_end)
        counted[adapter_id] = replace(adapter, corpus=corpus)
    return replace(facts, base=replace(facts.base, corpus=of_base), adapters=counted)


def _turn_end(template: TemplateFacts | None) -> int | None:
    return template.turn_end_id if template else None


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Open the file and parse it line by line, or at once if it is an array; what is no JSON is a `_Unusable`.

    Raises:
        CheckpointUnreadable: It cannot be opened, or an array is not JSON.
    """
    try:
        if not path.is_file():
            raise CheckpointUnreadable(f"the corpus {path.name!r} is not a file")
        with path.open("rb") as file:
            is_array = file.read(1000).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
        if not is_array:
            return _each_line(path)
        if path.stat().st_size > MAX_ARRAY_BYTES:
            raise CheckpointUnreadable(
                f"the corpus {path.name!r} is one array of more than {MAX_ARRAY_BYTES:,} bytes: write a line for each"
            )
        return iter(list(enumerate(json.loads(path.read_bytes()), start=1)))
    except OSError as error:
        raise CheckpointUnreadable(f"the corpus {path.name!r} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise CheckpointUnreadable(f"the corpus {path.name!r} is nested too deeply") from error
    except ValueError as error:
        raise CheckpointUnreadable(f"the corpus {path.name!r} is not JSON: {error}") from error


def _each_line(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE_BYTES)
                yield number, _Unusable(f"is longer than {MAX_LINE_BYTES:,} bytes")
                continue
            if stripped := line.strip().removeprefix(b"\xef\xbb\xbf"):
                yield number, _parsed(stripped)


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        return _Unusable(f"is not JSON: {error.msg} at column {error.colno}")
    except UnicodeDecodeError:
        return _Unusable("is not UTF-8")
    except (ValueError, RecursionError):
        return _Unusable("holds a value that cannot be read")


def _tokenizer(folder: Path) -> Any:
    try:
        return as_served(folder)
    except Exception as error:
        said = without_folders(" ".join(str(error).split()))[:300]
        raise CheckpointUnreadable(f"the corpus needs a tokenizer, and it cannot be loaded: {said}") from error


def _count_all(lines: Iterator[tuple[int, Any]], tokenizer: Any, turn_end_id: int | None, counts: _Counts) -> None:
    deadline = time.monotonic() + MAX_SECONDS
    for number, parsed in lines:
        if counts.num_conversations >= MAX_CONVERSATIONS or time.monotonic() > deadline:
            counts.is_cut = True
            return
        try:
            conversation = _conversation(parsed)
            ids = _encode(tokenizer, _render(tokenizer, conversation))
            answers = [_encode(tokenizer, one) for one in conversation.answers]
        except _Unusable as error:
            counts.skip(number, str(error))
        except Exception as error:  # a template is a program: it may raise anything
            said = " ".join(str(error).split()) or type(error).__name__
            counts.skip(number, f"cannot be rendered: {without_folders(said)[:200]}")
        else:
            counts.num_conversations += 1
            counts.num_tokens += len(ids)
            counts.total.update(ids)
            counts.conversations.update(set(ids))
            for answer in answers:
                counts.written.update(answer)
                if turn_end_id is not None and conversation.messages:
                    counts.written[turn_end_id] += 1


def _conversation(parsed: Any) -> _Conversation:
    """Understand one line, in any of the formats.

    Raises:
        _Unusable: It is none of them.
    """
    if isinstance(parsed, _Unusable):
        raise parsed
    if not isinstance(parsed, dict):
        raise _Unusable(f"holds a {type(parsed).__name__} where an object is expected")
    listed = parsed.get("messages") or parsed.get("conversations")
    if isinstance(listed, list) and listed:
        messages = [_message(one) for one in listed]
        if isinstance(parsed.get("system"), str) and parsed["system"] and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": parsed["system"]})
    elif question := next((parsed[key] for key in QUESTIONS if isinstance(parsed.get(key), (str, list))), None):
        if isinstance(question, list):
            messages = [_message(one) for one in question]
        else:
            more = parsed.get("input")
            question = f"{question}\n{more}" if isinstance(more, str) and more else question
            messages = [{"role": "user", "content": question}]
        answer = next((parsed[key] for key in ANSWERS if isinstance(parsed.get(key), (str, list))), None)
        if isinstance(answer, list):
            messages += [_message(one) for one in answer]
        elif answer is not None:
            messages.append({"role": "assistant", "content": answer})
    elif isinstance(text := parsed.get("text"), str) and text:
        return _Conversation([], text, [])
    else:
        raise _Unusable("has neither messages, conversations, prompt nor text")
    answers = [_plain(one["content"]) for one in messages if one["role"] == "assistant"]
    return _Conversation(messages, "", answers)


def _message(one: Any) -> dict[str, Any]:
    if not isinstance(one, Mapping):
        raise _Unusable(f"has a message that is a {type(one).__name__}")
    role = one.get("role", one.get("from"))
    content = one.get("content", one.get("value"))
    if role not in ROLES:
        raise _Unusable(f"has a message of the role {str(role)[:40]!r}")
    if content is None and one.get("tool_calls"):
        content = ""
    if isinstance(content, list):
        content = [_part(part) for part in content]
    elif not isinstance(content, str):
        raise _Unusable(f"has a message whose content is a {type(content).__name__}")
    kept = {key: one[key] for key in ("tool_calls", "name", "tool_call_id", "reasoning_content") if one.get(key)}
    return {"role": ROLES[role], "content": content, **kept}


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind in PICTURES:
        return {"type": "video" if "video" in kind else "image"}
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    raise _Unusable(f"has a content part of the type {str(kind)[:40]!r}")


def _plain(content: str | list[dict[str, Any]], placeholder: str = "") -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] if part["type"] == "text" else placeholder for part in content)


def _as_parts(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _render(tokenizer: Any, conversation: _Conversation) -> str:
    """Render as contents are given; if that fails or loses the text, as strings, then as lists of parts."""
    if not conversation.messages:
        return conversation.text
    if not tokenizer.chat_template:
        return "\n".join(_plain(one["content"]) for one in conversation.messages)
    placeholder = str(getattr(tokenizer, "image_token", None) or "<image>")
    as_text = [{**one, "content": _plain(one["content"], placeholder)} for one in conversation.messages]
    as_parts = [{**one, "content": _as_parts(one["content"])} for one in conversation.messages]
    expected = _plain(conversation.messages[-1]["content"]).strip()[:40]
    is_asked = conversation.messages[-1]["role"] != "assistant"
    failure: Exception = _Unusable("says something that the template does not show")
    for messages in (conversation.messages, as_text, as_parts):
        try:
            text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=is_asked))
        except Exception as error:  # tried in the other form
            failure = error
        else:
            if expected in text:
                return text
    raise failure


def _encode(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids
