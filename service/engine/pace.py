"""How much of prompts to compute between two steps of decoding.

Purely numbers. Whoever decodes waits for it, so it is made to take about as long as their own step; longer where more
wait for their first token than for their next one, and where many decode: then a short prompt comes every few steps,
and everyone waits less for it whole than twice for its halves, each of which costs as much as a step beside its tokens.
"""

import math

LEAST = 32
"""Tokens of the smallest piece: still smaller ones cost as much."""
PATIENCE = 1.9
"""How many steps of decoding a piece of a prompt may take, where at least as many decode as have prompts."""
PICTURE_PATIENCE = 4.0
"""The same of pictures: decoding between the layers of a small model's vision tower costs more than it saves."""
MANY, MANY_BESIDE_LONG = 4, 8
"""Of those who decode; the second where long prompts come, whose pieces are a gap after the other."""
MOST_PATIENT = 2.0
"""How many times as long as usual, where many decode."""
LONG, REMEMBERED = 256, 64
"""Tokens beyond which a prompt is long, and shorter ones behind it until long ones are not reckoned with."""
SMOOTHING = 0.2
MOST_LONGER = 4.0
"""How many times as long as usual a step counts at most: one that is recorded takes a hundred times as long, once."""


class Pace:
    """Learns what steps cost.

    Args:
        largest: Tokens of the largest piece, which is what is computed when nobody decodes.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._step: float | None = None
        self._token: float | None = None
        self._num_short = REMEMBERED

    def begun(self, tokens: int) -> None:
        """Note a prompt of so many tokens to compute."""
        self._num_short = 0 if tokens > LONG else self._num_short + 1

    def decoded(self, seconds: float) -> None:
        """Note a step of decoding."""
        known = self._step or seconds
        self._step = known + SMOOTHING * (min(seconds, MOST_LONGER * known) - known)

    def prefilled(self, seconds: float, tokens: int) -> None:
        """Note a piece of a prompt."""
        each = seconds / tokens
        self._token = each if self._token is None else self._token + SMOOTHING * (each - self._token)

    def allowance(self, num_decoding: int, num_prompts: int) -> int:
        """Return how many tokens of prompts to compute before the next step of decoding.

        Args:
            num_decoding: Sequences that wait for their next token.
            num_prompts: Sequences that wait for their first one.
        """
        patience = PATIENCE * self._share(num_decoding, num_prompts)
        if math.isinf(patience) or not self._token:
            return self._largest
        return min(max(LEAST, int(patience / self._token)), self._largest)

    def picture_seconds(self, num_decoding: int, num_prompts: int) -> float:
        """Return for how long pictures may be encoded before the next step of decoding; infinite if nobody decodes."""
        return PICTURE_PATIENCE * self._share(num_decoding, num_prompts)

    def _share(self, num_decoding: int, num_prompts: int) -> float:
        """Return the seconds of a step of decoding, more where many decode, or more wait for their first token."""
        if not num_decoding or self._step is None:
            return math.inf
        many = MANY if self._num_short >= REMEMBERED else MANY_BESIDE_LONG
        return max(1.0, num_prompts / num_decoding, min(num_decoding / many, MOST_PATIENT)) * self._step

    def suffices(self, allowance: int) -> bool:
        """Say whether what is left of an allowance is worth a piece."""
        return allowance >= min(LEAST, self._largest)

    @staticmethod
    def piece(allowance: int, remaining: int) -> int:
        """Return how many of a prompt's remaining tokens to compute next, so that the next pieces are of one size.

        Rather in fewer pieces than in ones much smaller than the smallest, even if the allowance is a little less.
        """
        count = -(-remaining // allowance)
        if allowance >= LEAST:
            count = min(count, max(1, round(remaining / LEAST)))
        return -(-remaining // count)
