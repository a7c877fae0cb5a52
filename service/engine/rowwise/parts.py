"""What an adapter does to one module, in numbers that can be applied row by row.

Knows nothing of peft.
"""

from dataclasses import dataclass
from typing import Any

import torch


class NotBatched(Exception):
    """An adapter does something that rows of a mixed batch cannot do; the message says what, in one line."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What an adapter does to one module.

    With y the base's output and b its bias, the adapter's is `y + gain * (y - b) + (x down^T) up + shift`; then the
    given tokens are replaced. `own` answers alone.

    Attributes:
        down: `(rank, in)`; of an embedding `(rank, embedding_rows)`, and x is one-hot.
        up: `(rank, out)`, with every scale in it.
        shift: `(out,)`
        gain: `(out,)`, zero where the output stays.
        token_ids: `(tokens,)`, sorted, without repetition.
        token_rows: `(tokens, hidden)`: these tokens' rows of the matrix.
        own: A module that answers instead of the base's.
    """

    down: torch.Tensor | None = None
    up: torch.Tensor | None = None
    shift: torch.Tensor | None = None
    gain: torch.Tensor | None = None
    token_ids: torch.Tensor | None = None
    token_rows: torch.Tensor | None = None
    own: Any = None

    @property
    def is_finite(self) -> bool:
        """No number could turn another row's zero into NaN."""
        tensors = (self.down, self.up, self.shift, self.gain, self.token_rows)
        return all(bool(torch.isfinite(one).all()) for one in tensors if one is not None)
