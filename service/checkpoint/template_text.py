"""Looks at texts that a chat template wrote: white space that tokens swallow, line breaks that are spelled out.

Knows no template; what a message says in these texts holds neither.
"""

import html
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

SPELLED = re.compile(r"(?:\\+(?:[nrt\"']|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2})|&(?:lt|gt|amp|quot|apos|nbsp|#\d{1,5});)+")
"""White space, quotes and brackets as JSON, Python and HTML spell them."""
UNIT = re.compile(r"\\+(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2})")
BRACKETS = re.compile(r"(?:&lt;|\\+u003c|\\+x3c)[|｜/\w]{1,44}(?:&gt;|\\+u003e|\\+x3e)", re.IGNORECASE)
MARKER = re.compile(r"<[|｜][^\s|｜<>]{1,40}[|｜]>")
ROLES = ("user", "assistant", "system")
SHOWN = 12
"""Characters beside a spelled one that tell where it stands."""


def swallowed_text(loaded: Any, texts: Iterable[str], tokens: Mapping[str, int]) -> dict[str, str]:
    """Return the tokens that take text beside them with them, with what they take first.

    Args:
        loaded: The tokenizer as it is served.
        texts: Rendered conversations.
        tokens: Ids of the tokens to look at.
    """
    found: dict[str, str] = {}
    contents = {token_id: token for token, token_id in tokens.items()}
    for text in texts:
        encoded = loaded(text, add_special_tokens=False, return_offsets_mapping=True)
        for token_id, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            token, span = contents.get(token_id), text[start:end]
            if token and token not in found and token in span and span != token:
                found[token] = span.replace(token, "", 1)
    return found


def spelled_out(texts: Iterable[str], tokens: Collection[str], messages: Collection[str]) -> list[str]:
    """Return what a template spells out where the white space, quotes or brackets of turns belong, with what is beside.

    Behind a marker, with a role between or not, and beside a message it is a part of the turn's form; inside a
    sentence, or at its end, it may be meant so.

    Args:
        texts: Rendered conversations.
        tokens: Added tokens.
        messages: What their messages say.
    """
    said = tuple(messages)
    form = (*tokens, *said, *(token + role for token in tokens for role in ROLES))
    found: dict[str, None] = {}
    for text in texts:
        for one in SPELLED.finditer(text):
            before, after = text[: one.start()], text[one.end() :]
            if before.endswith(form) or after.startswith(said):
                found[before[-SHOWN:] + one[0] + after[:SHOWN]] = None
        for one in BRACKETS.finditer(text):
            if (spelled := _plain(one[0])) in tokens or MARKER.fullmatch(spelled):
                found[one[0]] = None
    return list(found)


def _plain(text: str) -> str:
    return html.unescape(UNIT.sub(lambda match: chr(int(re.split(r"[ux]", match[0])[1], 16)), text))
