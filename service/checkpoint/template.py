"""Renders the chat template for fixed conversations and says which tokens it writes.

Does not know which tokens end an answer.
"""

import ctypes
import threading
from collections.abc import Mapping
from typing import Any

from service.domain.facts import AddedToken, TemplateFacts
from service.wording import without_folders

ANSWER = "ANSWER7"
PLAIN: tuple[list[dict[str, str]], ...] = (
    [{"role": "user", "content": "Hello"}],
    [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "你好"},
    ],
)
"""Conversations that every template must render."""
OPTIONAL: tuple[list[dict[str, Any]], ...] = (
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
    [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}],
)
"""Conversations that a template may refuse."""
MAX_SECONDS = 10.0
"""Templates render in milliseconds; a loop without end would keep the service from ever saying why."""
FINISHED = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": ANSWER}]


def render_template(loaded: Any, added: Mapping[str, AddedToken]) -> TemplateFacts:
    """Describe the template that a transformers tokenizer carries.

    Args:
        loaded: The tokenizer.
        added: Its added tokens.
    """
    if not loaded.chat_template:
        return TemplateFacts(False, {}, None, None, None)
    found: list[TemplateFacts] = []
    thread = threading.Thread(target=lambda: found.append(_describe(loaded, added)), name="template", daemon=True)
    thread.start()
    thread.join(MAX_SECONDS)
    if found:
        return found[0]
    if thread.ident is not None:  # ends a loop of the template at its next step
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
    return TemplateFacts(True, {}, None, None, f"it does not come to an end within {MAX_SECONDS:.0f} seconds")


def _describe(loaded: Any, added: Mapping[str, AddedToken]) -> TemplateFacts:
    try:
        rendered = [_render_either(loaded, conversation, conversation[-1]["content"]) for conversation in PLAIN]
        finished = _render_either(loaded, FINISHED, ANSWER, add_generation_prompt=False)
    except Exception as error:  # a template is a program: it may raise anything
        text = str(error).strip() or type(error).__name__
        return TemplateFacts(True, {}, None, None, without_folders(text.splitlines()[0])[:300])
    rendered += [_render_or_nothing(loaded, conversation) for conversation in OPTIONAL]
    text = "".join([*rendered, finished])
    tokens = {token: one.token_id for token, one in added.items() if token in text}
    turn_end = _first_token(finished.rpartition(ANSWER)[2], tokens)
    return TemplateFacts(True, tokens, turn_end, tokens.get(turn_end) if turn_end else None, None)


def _render_either(
    loaded: Any, conversation: list[dict[str, str]], expected: str, *, add_generation_prompt: bool = True
) -> str:
    """Render with contents as strings; if that fails or loses the text, with contents as lists of parts.

    Raises:
        Exception: What the template raises, or a ValueError if it shows the expected text in neither form.
    """
    as_parts = [{**one, "content": [{"type": "text", "text": one["content"]}]} for one in conversation]
    failure: Exception = ValueError("what a message says does not appear in the prompt")
    for form in (conversation, as_parts):
        try:
            text: str = loaded.apply_chat_template(form, tokenize=False, add_generation_prompt=add_generation_prompt)
        except Exception as error:  # tried in the other form
            failure = error
        else:
            if expected in text:
                return text
    raise failure


def _render_or_nothing(loaded: Any, conversation: list[dict[str, Any]]) -> str:
    try:
        return str(loaded.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True))
    except Exception:  # a template may refuse system prompts or pictures
        return ""


def _first_token(text: str, tokens: Mapping[str, int]) -> str | None:
    stripped = text.lstrip()
    starting = [token for token in tokens if stripped.startswith(token)]
    return max(starting, key=len, default=None)
