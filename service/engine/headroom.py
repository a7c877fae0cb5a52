"""How many sequences may be computed at once: fewer after the device ran out of memory, more again when it goes well.

Purely numbers.
"""

FIRST_PATIENCE = 1000
"""Full steps of decoding that must go well before one more is let in; twice as many if the memory runs out again."""
MOST_PATIENCE = 64_000


class Headroom:
    """The number of sequences that the device's memory has shown room for.

    Args:
        most: Sequences that there are places for.

    Attributes:
        num_sequences: Sequences that may be computed at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.num_sequences = most
        self._patience = 0
        self._num_good = 0
        self._has_run_out = False

    def ran_out(self, num_inside: int) -> None:
        """Note that the memory was not enough for so many."""
        self.num_sequences = max(1, min(self.num_sequences, num_inside - 1))
        if not self._has_run_out:
            self._patience = min(2 * self._patience, MOST_PATIENCE) or FIRST_PATIENCE
        self._has_run_out, self._num_good = True, 0

    def went_well(self, num_inside: int) -> None:
        """Note a step of decoding with so many inside."""
        self._has_run_out = False
        if num_inside < self.num_sequences or self.num_sequences == self._most:
            return
        self._num_good += 1
        if self._num_good >= self._patience:
            self.num_sequences += 1
            self._num_good = 0
        if self.num_sequences == self._most:
            self._patience = 0
