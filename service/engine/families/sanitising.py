"""Keeps control tokens in a client's text from acting as control tokens.

Knows neither templates nor models. Each control token in a message is replaced by a mark before the template is
rendered, and the mark's id by the ids of the token's letters afterwards. A mark is a token added to this process's
copy of the tokenizer, so no neighbour can merge with it; no mark ever reaches the model. transformers'
`sanitize_control_tokens` does the same, but the processors of MiniCPM-V 4.6 and 4.7 count a client's placeholders as
pictures before it takes effect (5.23), and it treats tokens that an adapter added and trained like the base's.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from service.domain.generation import Message, Part
from service.errors import InvalidField

MARK = "\ue0f5\ue0f6{}\ue0f7"
"""Private-use characters around a number: nothing that anyone types."""


class Sanitiser:
    """Marks and unmarks control tokens for one tokenizer.

    Args:
        tokenizer: A transformers tokenizer; gets the marks as additional tokens.
        control_tokens: The tokens that must not act when a client writes them.
    """

    def __init__(self, tokenizer: Any, control_tokens: frozenset[str]) -> None:
        from transformers import AddedToken

        longest_first = sorted(control_tokens, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._marks = {token: MARK.format(index) for index, token in enumerate(longest_first)}
        acting = frozenset(tokenizer.convert_tokens_to_ids(longest_first))
        letters = {token: _as_text(tokenizer, token, acting) for token in longest_first}
        tokenizer.add_tokens([AddedToken(mark, normalized=False) for mark in self._marks.values()])
        ids = tokenizer.convert_tokens_to_ids(list(self._marks.values()))
        self._letters = dict(zip(ids, (letters[token] for token in self._marks), strict=True))

    def mark(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """Replace control tokens by their marks.

        Raises:
            InvalidField: A text contains a mark.
        """
        return tuple(
            replace(message, content=tuple(self._mark_part(part) for part in message.content)) for message in messages
        )

    def unmark(self, tensors: dict[str, Any]) -> dict[str, Any]:
        """Put the ids of the control tokens' letters where the marks are.

        Args:
            tensors: With `input_ids` `(1, length)` and any other tensors of that shape, which are stretched along.
        """
        import torch

        ids: list[int] = tensors["input_ids"][0].tolist()
        if not any(one in self._letters for one in ids):
            return tensors
        unmarked = dict(tensors)
        for key, tensor in tensors.items():
            if getattr(tensor, "shape", None) == tensors["input_ids"].shape:
                values = [
                    new
                    for token_id, value in zip(ids, tensor[0].tolist(), strict=True)
                    for new in self._unmarked(token_id, value, is_id=key == "input_ids")
                ]
                unmarked[key] = torch.tensor([values], dtype=tensor.dtype)
        return unmarked

    def _unmarked(self, token_id: int, value: int, *, is_id: bool) -> list[int]:
        letters = self._letters.get(token_id)
        if letters is None:
            return [value]
        return letters if is_id else [value] * len(letters)

    def _mark_part(self, part: Part) -> Part:
        if not isinstance(part, str):
            return part
        if any(mark in part for mark in self._marks.values()):
            raise InvalidField("messages: the text contains private-use characters that this service uses itself")
        return self._pattern.sub(lambda match: self._marks[match[0]], part)


def _as_text(tokenizer: Any, token: str, acting: frozenset[int]) -> list[int]:
    """Encode a token as text, in pieces that do not act themselves.

    Asking the tokenizer to split special tokens is not enough: those that are not flagged special stay whole, and where
    a word of the vocabulary became a control token, as MiniCPM-V up to 4.5 made `<unk>` one, letters can merge to it.
    """
    ids = _after_newline(tokenizer, token)
    if acting.isdisjoint(ids):
        return ids
    return [one for letter in token for one in _after_newline(tokenizer, letter)]


def _after_newline(tokenizer: Any, text: str) -> list[int]:
    """Encode text after a newline, so that no tokenizer adds the space of a text's start."""
    newline = tokenizer.encode("\n", add_special_tokens=False)
    ids: list[int] = tokenizer.encode("\n" + text, add_special_tokens=False, split_special_tokens=True)
    return ids[len(newline) :]
