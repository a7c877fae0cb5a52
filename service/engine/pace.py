"""How much of a prompt to compute between two steps of decoding.

Purely numbers. Whoever decodes waits for it, so the piece is made to take about as long as their own step.
"""

LEAST = 32
"""Tokens of the smallest piece: still smaller ones cost as much."""
PATIENCE = 1.9
"""How many steps of decoding a piece of a prompt may take."""
SMOOTHING = 0.2


class Pace:
    """Learns what steps cost.

    Args:
        largest: Tokens of the largest piece, which is what is computed when nobody decodes.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._step: float | None = None
        self._token: float | None = None

    def decoded(self, seconds: float) -> None:
        """Note a step of decoding."""
        self._step = seconds if self._step is None else self._step + SMOOTHING * (seconds - self._step)

    def prefilled(self, seconds: float, tokens: int) -> None:
        """Note a piece of a prompt."""
        each = seconds / tokens
        self._token = each if self._token is None else self._token + SMOOTHING * (each - self._token)

    def allowance(self, *, is_anybody_decoding: bool) -> int:
        """Return how many tokens of prompts to compute before the next step of decoding."""
        if not is_anybody_decoding or self._step is None or not self._token:
            return self._largest
        return min(max(LEAST, int(PATIENCE * self._step / self._token)), self._largest)

    def suffices(self, allowance: int) -> bool:
        """Say whether what is left of an allowance is worth a piece."""
        return allowance >= min(LEAST, self._largest)

    @staticmethod
    def piece(allowance: int, remaining: int) -> int:
        """Return how many of a prompt's remaining tokens to compute next, so that the next pieces are of one size."""
        count = -(-remaining // allowance)
        return -(-remaining // count)
