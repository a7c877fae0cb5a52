"""Keeps control tokens in a client's text from acting as control tokens.

Knows neither templates nor models. Each control token in a message is replaced by one private-use character before
the template is rendered, and that character's ids by the ids of the token's letters afterwards. transformers'
`sanitize_control_tokens` does the same but refuses it in the processors of MiniCPM-V 4.6 and 4.7 (5.23), and treats
tokens that an adapter added and trained like the base's.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from service.domain.generation import Message, PictureRef
from service.errors import InvalidField

PRIVATE_USE = range(0xE000, 0xF8FF)


class Sanitiser:
    """Marks and unmarks control tokens for one tokenizer.

    Args:
        tokenizer: A transformers tokenizer.
        control_tokens: The tokens that must not act when a client writes them.
    """

    def __init__(self, tokenizer: Any, control_tokens: frozenset[str]) -> None:
        self._tokenizer = tokenizer
        longest_first = sorted(control_tokens, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def mark(self, messages: Sequence[Message]) -> tuple[tuple[Message, ...], dict[str, str]]:
        """Replace control tokens by characters that occur nowhere else in the messages.

        Returns:
            The messages, and the control token that each character stands for.
        """
        texts = [part for message in messages for part in message.content if isinstance(part, str)]
        tokens = sorted({token for text in texts for token in self._pattern.findall(text)})
        if not tokens:
            return tuple(messages), {}
        taken = set("".join(texts))
        free = (chr(code) for code in PRIVATE_USE if chr(code) not in taken)
        marks = dict(zip(tokens, free, strict=False))
        marked = [
            replace(message, content=tuple(self._mark_part(part, marks) for part in message.content))
            for message in messages
        ]
        return tuple(marked), {mark: token for token, mark in marks.items()}

    def unmark(self, tensors: dict[str, Any], found: dict[str, str]) -> dict[str, Any]:
        """Put the ids of the control tokens' letters where the marks are.

        Args:
            tensors: With `input_ids` `(1, length)` and any other tensors of that shape, which are stretched along.
            found: What `mark` returned.

        Raises:
            InvalidField: The tokenizer cannot tell a mark from other text (a vocabulary without bytes).
        """
        for mark, token in found.items():
            tensors = self._splice(tensors, token, self._ids(mark), self._ids_as_text(token))
        return tensors

    def _mark_part(self, part: str | PictureRef, marks: dict[str, str]) -> str | PictureRef:
        return self._pattern.sub(lambda match: marks[match[0]], part) if isinstance(part, str) else part

    def _ids(self, text: str) -> list[int]:
        """Encode in the middle of a text, so that no tokenizer adds the space of a text's start."""
        newline = self._tokenizer.encode("\n", add_special_tokens=False)
        ids: list[int] = self._tokenizer.encode("\n" + text, add_special_tokens=False)
        return ids[len(newline) :]

    def _ids_as_text(self, token: str) -> list[int]:
        newline = self._tokenizer.encode("\n", add_special_tokens=False)
        ids: list[int] = self._tokenizer.encode("\n" + token, add_special_tokens=False, split_special_tokens=True)
        return ids[len(newline) :]

    def _splice(self, tensors: dict[str, Any], token: str, mark_ids: list[int], text_ids: list[int]) -> dict[str, Any]:
        import torch

        ids: list[int] = tensors["input_ids"][0].tolist()
        places = [i for i in range(len(ids)) if ids[i : i + len(mark_ids)] == mark_ids]
        if not places or self._tokenizer.unk_token_id in mark_ids:
            raise InvalidField(
                f"messages: the text contains the control token {token!r}, which this model's tokenizer cannot encode "
                "as plain text; write it differently"
            )
        parallel = [key for key, one in tensors.items() if getattr(one, "shape", None) == tensors["input_ids"].shape]
        spliced = dict(tensors)
        for key in parallel:
            values: list[int] = tensors[key][0].tolist()
            for place in reversed(places):
                new = text_ids if key == "input_ids" else [values[place]] * len(text_ids)
                values[place : place + len(mark_ids)] = new
            spliced[key] = torch.tensor([values], dtype=tensors[key].dtype)
        return spliced
