"""Turns a stream of token ids into text that may be shown: whole characters, and nothing of a stop string.

Knows no model and no queue.
"""

from collections.abc import Sequence
from typing import Any

REPLACEMENT = "\ufffd"


class TextAssembler:
    """Decodes one answer as it grows.

    Text is what the ids since the last sure character decode to, less what was shown of them; ids that end in half a
    character wait. (The tokenizers library's `DecodeStream` fails on a half character followed by a whole token in
    vocabularies with byte fallback, such as MiniCPM3's.)

    Args:
        tokenizer: A transformers tokenizer with a fast backend.
        stop: Strings that end the answer and are not part of it.

    Attributes:
        text: All text sent so far.
        is_stopped: A stop string was completed.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str]) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._stop = tuple(one for one in stop if one)
        self._ids: list[int] = []
        self._start = 0  # ids from here on are decoded anew, so that the decoder sees what stands before
        self._shown = 0  # ids before here are in the text already
        self._held = ""
        self.text = ""
        self.is_stopped = False

    def push(self, token_id: int) -> str:
        """Take one token; return the text that it makes certain."""
        if self.is_stopped:
            return ""
        self._ids.append(token_id)
        piece = self._new_text()
        if not piece or piece.endswith(REPLACEMENT):
            return ""
        self._start, self._shown = self._shown, len(self._ids)
        return self._release(self._held + piece)

    def flush(self) -> str:
        """Return what was held back; a character that never got whole comes out as U+FFFD."""
        if self.is_stopped:
            return ""
        shown = self._release(self._held + self._new_text())
        held, self._held = self._held, ""
        self.text += held
        return shown + held

    def _new_text(self) -> str:
        known = self._backend.decode(self._ids[self._start : self._shown], skip_special_tokens=False)
        whole: str = self._backend.decode(self._ids[self._start :], skip_special_tokens=False)
        return whole[len(known) :]

    def _release(self, text: str) -> str:
        """Cut at the first stop string, or hold back an end that may become one."""
        places = [(place, one) for one in self._stop if (place := text.find(one)) >= 0]
        if places:
            place, _ = min(places)
            self.is_stopped, self._held = True, ""
            self.text += text[:place]
            return text[:place]
        kept = max((_overlap(text, one) for one in self._stop), default=0)
        shown, self._held = text[: len(text) - kept], text[len(text) - kept :]
        self.text += shown
        return shown


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of the text begin the stop string."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
