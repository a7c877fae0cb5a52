"""What is asked: prompts of a wanted length with beginnings of their own, and pictures, all drawn by seed.

Knows no server. Everything is encoded before the clock starts.
"""

import base64
import io
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from tokenizers import Tokenizer

from benchmarks.serving.dialects import Question

TEXT_TOKENS = 64
LONG_TOKENS = 1500
LONG_ANSWER_TOKENS = 8
PICTURE_PROMPT_TOKENS = 16
REPEATED_PICTURES = 1
FIGURES = 12
PICTURE_QUALITY = 90
PICTURES_AHEAD = 24
"""Pictures drawn before the clock starts; more are drawn while it runs, if a server is that fast."""


class Material:
    """An endless supply of questions for one shape.

    Args:
        folder: The checkpoint, for its tokenizer.
        picture_pixels: Width and height.
        seed: Of everything drawn; two servers that are asked with the same seed get the same questions in order.
        system_tokens: Length of a system message that all questions share; 0 for none.
    """

    def __init__(self, folder: Path, picture_pixels: tuple[int, int], seed: int, system_tokens: int = 0) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._pieces = [self._tokenizer.decode([id_]) for id_ in text_ids(self._tokenizer)]
        self._size = picture_pixels
        self._chance = random.Random(seed)
        self._seed = seed
        self._system = self._words(random.Random(0), system_tokens) if system_tokens else ""

    def texts(self, answer_tokens: int, prompt_tokens: int = TEXT_TOKENS) -> Iterator[Question]:
        """Yield questions of about so many tokens, each with a beginning of its own."""
        while True:
            yield Question(self._words(self._chance, prompt_tokens), answer_tokens, system=self._system)

    def pictures(self, answer_tokens: int, num_different: int | None = None) -> Iterator[Question]:
        """Yield questions about pictures.

        Args:
            answer_tokens: Of every answer.
            num_different: After so many pictures the first comes again; None for no repetition.
        """
        drawn = [self._picture(place) for place in range(num_different or PICTURES_AHEAD)]
        place = 0
        while True:
            if num_different is None and place >= len(drawn):
                drawn.append(self._picture(place))
            picture = drawn[place % len(drawn)]
            prompt = self._words(self._chance, PICTURE_PROMPT_TOKENS)
            yield Question(prompt, answer_tokens, picture, self._system)
            place += 1

    def _words(self, chance: random.Random, num_tokens: int) -> str:
        """Join random pieces; read again they may merge, so the length is set by counting."""
        text = ""
        while (missing := num_tokens - len(self._tokenizer.encode(text).ids)) > 0:
            text += "".join(chance.choices(self._pieces, k=missing))
        return text

    def _picture(self, place: int) -> str:
        """Draw figures on noise and return a data URL."""
        values = np.random.default_rng((self._seed, place))
        width, height = self._size
        small = values.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize(self._size, Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(picture)
        for _ in range(FIGURES):
            corners = sorted(values.integers(0, width, 2).tolist()), sorted(values.integers(0, height, 2).tolist())
            box: Sequence[float] = (corners[0][0], corners[1][0], corners[0][1], corners[1][1])
            draw.ellipse(box, fill=tuple(values.integers(0, 256, 3).tolist()))
        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", quality=PICTURE_QUALITY)
        return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode()


def text_ids(tokenizer: Tokenizer) -> list[int]:
    """Return the ids whose tokens are whole characters and not added by name."""
    added = set(tokenizer.get_added_tokens_decoder())
    ids = (id_ for id_ in range(tokenizer.get_vocab_size()) if id_ not in added)
    return [id_ for id_ in ids if (text := tokenizer.decode([id_])) and "\ufffd" not in text and text.isprintable()]
