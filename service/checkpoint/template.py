"""Renders the chat template for fixed conversations and says which tokens it writes and which texts it loses.

Does not know which tokens end an answer.
"""

import ctypes
import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from service.checkpoint.documents import Documents
from service.checkpoint.template_text import spelled_out, swallowed_text
from service.domain.facts import TemplateFacts, TokenizerFacts
from service.domain.minicpmv import MODEL_TYPE
from service.wording import without_folders

ANSWER = "ANSWER7"
TEMPLATE_FILE, OLD_TEMPLATE_FILE, CONFIG = "chat_template.jinja", "chat_template.json", "tokenizer_config.json"
PICTURE = {"type": "image"}
Conversation = list[dict[str, Any]]
Render = Callable[..., Any]
"""A template with what this service hands to it: takes a conversation, and returns a text."""
PLAIN: dict[str, Conversation] = {
    "question": [{"role": "user", "content": "Hello"}],
    "turns": [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi there"},
        {"role": "user", "content": "你好"},
    ],
}
"""Conversations that every template must render."""
OPTIONAL: dict[str, Conversation] = {
    "system": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
    "picture": [{"role": "user", "content": [PICTURE, {"type": "text", "text": "What is this?"}]}],
    "pictures": [{"role": "user", "content": [PICTURE, {"type": "text", "text": "和"}, PICTURE]}],
}
"""Conversations that a template may refuse."""
NUM_PICTURES = {"picture": 1, "pictures": 2}
VIDEO: Conversation = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What happens?"}]}]
MAX_SECONDS = 10.0
"""Templates render in milliseconds; a loop without end would keep the service from ever saying why."""
FINISHED: Conversation = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": ANSWER}]
MARKER = re.compile(r"<[|｜][^\s|｜<>]{1,40}[|｜]>")
CLOSING = re.compile(r"\s*(</?[A-Za-z_]\w{0,40}>)")
"""A marker in brackets right behind an answer, which must be a token."""
REASONING = re.compile(r"</?think")
THOUGHT = re.compile(r"</?think\w{0,20}>")
"""What opens and closes a thought; in most vocabularies a token each."""
SAID = ("Hello", "Hi there", "你好", "Be brief.", "What is this?", "和", ANSWER)
"""What the messages of all of these say."""
VERBATIM = {
    "quotes": 'She said "it\'s" & left',
    "signs": "if 1 < 2 > 0: print({{ x }}) # \\ {% y %}",
    "line breaks": "one\n\n  two\n\tthree",
    "length": "a rather long message " * 400 + "ends",
    "case": "HELLO Hello hello",
}
"""What a client may write, by what is special about it; white space around it may be cut."""
TRAINING_TAG = re.compile(r"\{%-?\s*(generation|endgeneration)\s*-?%\}")


def template_files(folder: Path, documents: Documents) -> dict[str, str]:
    """Return the templates of a folder by the file that holds them, the one that transformers uses first."""
    found: dict[str, object] = {}
    if (folder / TEMPLATE_FILE).is_file():
        found[TEMPLATE_FILE] = (folder / TEMPLATE_FILE).read_text(encoding="utf-8", errors="replace")
    found[OLD_TEMPLATE_FILE] = documents.json(OLD_TEMPLATE_FILE).get("chat_template")
    found[CONFIG] = documents.json(CONFIG).get("chat_template")
    return {file: text for file, text in found.items() if isinstance(text, str) and text}


def render_template(
    loaded: Any, tokenizer: TokenizerFacts, files: Mapping[str, str], model_type: object = None
) -> TemplateFacts:
    """Describe the template that a transformers tokenizer carries.

    Args:
        loaded: The tokenizer.
        tokenizer: What is known about it.
        files: The folder's templates, by file.
        model_type: Of config.json. MiniCPM-V up to 4.5 is served without thinking unless a request asks for it.
    """
    switches = {"enable_thinking": False} if model_type == MODEL_TYPE else {}
    if not loaded.chat_template and OLD_TEMPLATE_FILE in files:
        loaded.chat_template = files[OLD_TEMPLATE_FILE]  # read by processors, not by tokenizers
    if not loaded.chat_template:
        return TemplateFacts(False, {}, None, None, None)
    found: list[TemplateFacts] = []
    work = lambda: found.append(_describe(loaded, tokenizer, files, switches))  # noqa: E731 - a thread's body
    thread = threading.Thread(target=work, name="template", daemon=True)
    thread.start()
    thread.join(MAX_SECONDS)
    if found:
        return found[0]
    if thread.ident is not None:  # ends a loop of the template at its next step
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
    return TemplateFacts(True, {}, None, None, f"it does not come to an end within {MAX_SECONDS:.0f} seconds")


def _describe(
    loaded: Any, tokenizer: TokenizerFacts, files: Mapping[str, str], switches: Mapping[str, bool]
) -> TemplateFacts:
    render: Render = partial(loaded.apply_chat_template, tokenize=False, **switches)
    try:
        texts: dict[str, str | None] = {}
        for name, one in PLAIN.items():
            texts[name] = _render_either(render, one, one[-1]["content"])
        finished = _render_either(render, FINISHED, ANSWER, add_generation_prompt=False)
        bare = _render_either(render, PLAIN["question"], "Hello", add_generation_prompt=False)
    except Exception as error:  # a template is a program: it may raise anything
        text = str(error).strip() or type(error).__name__
        return TemplateFacts(True, {}, None, None, without_folders(text.splitlines()[0])[:300])
    texts |= {name: _render_or_nothing(render, one) for name, one in OPTIONAL.items()}
    texts["finished"] = finished
    asked = texts["question"] or ""
    openings = (_opening(asked), _opening(finished.rpartition(ANSWER)[0]))
    written = "".join(one for one in texts.values() if one)
    tokens = {token: one.token_id for token, one in tokenizer.added.items() if token in written}
    turn_end = _first_token(finished.rpartition(ANSWER)[2], tokens)
    encoded = {
        name: tuple(loaded.encode(text, add_special_tokens=False)) if text is not None else None
        for name, text in texts.items()
    }
    split = {*_unknown_markers(written, finished, tokenizer), *_split_tokens(texts, encoded, tokens)}
    switched = _switched_texts(render)
    marks = {mark for pair in switched for text in pair for mark in THOUGHT.findall(text)}
    used = loaded.chat_template if isinstance(loaded.chat_template, str) else ""
    return TemplateFacts(
        is_present=True,
        control_tokens=tokens,
        turn_end=turn_end,
        turn_end_id=tokens.get(turn_end) if turn_end else None,
        error=None,
        conversations=encoded,
        placeholders=_placeholders(texts, tokenizer.texts.get("image_token")),
        video_placeholders=_video_placeholders(render, tokenizer),
        lost=tuple(_lost(texts)),
        lost_beside_pictures=tuple(_lost_beside_pictures(texts)),
        altered=tuple(_altered(render)),
        is_prompting=asked != bare or openings[0] == openings[1],
        is_question_open=turn_end is not None and _is_open(asked, openings[1], tokens),
        openings=openings,
        split_markers=tuple(sorted(split)),
        plain_marks=tuple(sorted(set(THOUGHT.findall(written)) - tokenizer.vocabulary.keys() - split)),
        switched_marks=tuple(sorted(marks - set(THOUGHT.findall(written)) - tokenizer.vocabulary.keys())),
        switched_tokens={
            token: one.token_id
            for token, one in tokenizer.added.items()
            if token not in tokens and any(token in text for pair in switched for text in pair)
        },
        has_switch=any(on != off for on, off in switched),
        renderings={name: _digest(text) for name, text in texts.items() if text is not None},
        wordings={name: _digest(_squeezed(text)) for name, text in texts.items() if text is not None},
        swallowed=swallowed_text(loaded, [one for one in texts.values() if one], tokens),
        spelled=tuple(spelled_out([one for one in texts.values() if one], tokenizer.added, SAID)),
        lead=asked.rpartition("Hello")[2],
        training_tags=tuple(sorted({match[1] for match in TRAINING_TAG.finditer(used)})),
        rivals=tuple(file for file, text in files.items() if used and _squeezed(text) != _squeezed(used)),
    )


def _unknown_markers(written: str, finished: str, tokenizer: TokenizerFacts) -> set[str]:
    """Return markers that a template writes, in front of turns or behind them, and the tokenizer has no token for."""
    found = set(MARKER.findall(written))
    if closing := CLOSING.match(finished.rpartition(ANSWER)[2]):
        found.add(closing[1])
    return found - tokenizer.vocabulary.keys()


def _placeholders(texts: Mapping[str, str | None], placeholder: str | None) -> dict[str, int]:
    """Count the placeholders of pictures in each conversation that has pictures and could be rendered."""
    shown = {name: text for name in NUM_PICTURES if (text := texts[name]) is not None}
    return {name: text.count(placeholder) for name, text in shown.items()} if placeholder else {}


def _split_tokens(
    texts: Mapping[str, str | None], encoded: Mapping[str, tuple[int, ...] | None], tokens: Mapping[str, int]
) -> list[str]:
    """Name the tokens that stand in a prompt's text more often than in its ids."""
    whole = [one for one in tokens if not any(one != other and one in other for other in tokens)]
    return [
        token
        for token in whole
        for name, text in texts.items()
        if text and text.count(token) > (encoded[name] or ()).count(tokens[token])
    ]


def _lost(texts: Mapping[str, str | None]) -> list[str]:
    """Name the messages whose text does not appear where it was given as one string."""
    return [
        f"{name}: {message['role']}"
        for name, conversation in {**PLAIN, "system": OPTIONAL["system"]}.items()
        for message in conversation
        if (text := texts[name]) is not None and message["content"] not in text
    ]


def _lost_beside_pictures(texts: Mapping[str, str | None]) -> list[str]:
    """Name the conversations with pictures whose text does not appear."""
    return [
        name
        for name in NUM_PICTURES
        for part in OPTIONAL[name][0]["content"]
        if "text" in part and (text := texts[name]) is not None and part["text"] not in text
    ]


def _video_placeholders(render: Render, tokenizer: TokenizerFacts) -> dict[str, int]:
    """Count what stands for one video, by role; empty where the template refuses videos."""
    shown = _render_or_nothing(render, VIDEO)
    roles = [role for role in ("image_token", "video_token") if role in tokenizer.texts]
    return {role: shown.count(tokenizer.texts[role]) for role in roles} if shown is not None else {}


def _switched_texts(render: Render) -> list[tuple[str, str]]:
    """Return what a question becomes when a request switches thinking on, and when off, in both forms of messages."""
    forms = (PLAIN["question"], _as_parts(PLAIN["question"]))
    return [(_switched(render, form, True), _switched(render, form, False)) for form in forms]


def _switched(render: Render, conversation: Conversation, is_thinking: bool) -> str:
    try:
        return str(render(conversation, add_generation_prompt=True, enable_thinking=is_thinking))
    except Exception:  # a template is a program: it may raise anything
        return ""


def _altered(render: Render) -> list[str]:
    """Name what is not written as it was given, in the form of messages that shows plain words."""
    is_string = _is_written(render, PLAIN["question"], "Hello")
    found = []
    for name, text in VERBATIM.items():
        conversation: Conversation = [{"role": "user", "content": text}]
        if not _is_written(render, conversation if is_string else _as_parts(conversation), text):
            found.append(name)
    return found


def _is_written(render: Render, conversation: Conversation, text: str) -> bool:
    try:
        return text in render(conversation, add_generation_prompt=True)
    except Exception:  # a template is a program: it may raise anything
        return False


def _is_open(asked: str, opening: str, tokens: Mapping[str, int]) -> bool:
    """Say whether nothing closes a question although the answer begins with the same token as the question."""
    before = asked.rpartition("Hello")[0]
    opener = max(tokens, key=lambda one: before.rfind(one), default="")
    return opener in before and opening.lstrip().startswith(opener)


def _opening(text: str) -> str:
    """Return what stands between the question and an answer, up to a block of reasoning."""
    return REASONING.split(text.rpartition("Hello")[2])[0].rstrip()


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _render_either(
    render: Render, conversation: Conversation, expected: str, *, add_generation_prompt: bool = True
) -> str:
    """Render with contents as strings; if that fails or loses the text, with contents as lists of parts.

    Raises:
        Exception: What the template raises, or a ValueError if it shows the expected text in neither form.
    """
    failure: Exception = ValueError("what a message says does not appear in the prompt")
    for form in (conversation, _as_parts(conversation)):
        try:
            text: str = render(form, add_generation_prompt=add_generation_prompt)
        except Exception as error:  # tried in the other form
            failure = error
        else:
            if expected in text:
                return text
    raise failure


def _as_parts(conversation: Conversation) -> Conversation:
    return [{**one, "content": [{"type": "text", "text": one["content"]}]} for one in conversation]


def _render_or_nothing(render: Render, conversation: Conversation) -> str | None:
    if isinstance(conversation[0]["content"], str):
        try:
            return _render_either(render, conversation, conversation[-1]["content"])
        except Exception:  # a template may refuse system prompts
            return None
    try:
        return str(render(conversation, add_generation_prompt=True))
    except Exception:  # or pictures
        return None


def _first_token(text: str, tokens: Mapping[str, int]) -> str | None:
    stripped = text.lstrip()
    starting = [token for token in tokens if stripped.startswith(token)]
    return max(starting, key=len, default=None)
