"""Changes one module's output for the rows whose adapters ask for it: gains and tokens.

Knows tensors and a mix of adapters; knows no module and nothing of peft.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from service.engine.rowwise.parts import Part
from service.engine.rowwise.routing import Mix, rows_of


class Gains:
    """DoRA's factors, less one, of all adapters of one module.

    Args:
        gains: `(out,)` by adapter.
        bias: Of the base's module; DoRA leaves it as it is.
        num_adapters: Of the whole tree.
    """

    def __init__(self, gains: Mapping[int, torch.Tensor], bias: torch.Tensor | None, num_adapters: int) -> None:
        first = next(iter(gains.values()))
        self._table = first.new_zeros(num_adapters + 1, 1, len(first))
        for adapter, gain in gains.items():
            self._table[adapter, 0] = gain
        self._is_scaled = torch.tensor([one in gains for one in range(num_adapters + 1)], device=first.device)
        self._adapters = frozenset(gains)
        self._bias = bias

    def apply(self, y: torch.Tensor, mix: Mix) -> torch.Tensor:
        """Return y `(rows, tokens, out)` with the rows of DoRA's adapters scaled, and all others untouched."""
        if self._adapters.isdisjoint(mix.active):
            return y
        gains = self._table[mix.index].to(y.dtype)
        scaled = torch.addcmul(y, y if self._bias is None else y - self._bias, gains)
        if self._adapters.issuperset(mix.present):
            return scaled
        return torch.where(self._is_scaled[mix.index][:, None, None], scaled, y)


class Tokens:
    """Rows of the matrix that adapters replaced, of all adapters of one embedding or head.

    Args:
        parts: By adapter, ascending.
        vocabulary: Rows of the matrix.

    Attributes:
        adapters: Who replaced any.
    """

    def __init__(self, parts: Mapping[int, Part], vocabulary: int) -> None:
        self._by_adapter = {
            adapter: (part.token_ids, part.token_rows)
            for adapter, part in parts.items()
            if part.token_ids is not None and part.token_rows is not None
        }
        self.adapters = frozenset(self._by_adapter)
        self._vocabulary = vocabulary
        self._keys = torch.cat([ids + adapter * vocabulary for adapter, (ids, _) in self._by_adapter.items()])
        self._rows = torch.cat([rows for _, rows in self._by_adapter.values()])

    def embed(self, ids: torch.Tensor, y: torch.Tensor, mix: Mix) -> torch.Tensor:
        """Return y `(rows, tokens, hidden)` with the replaced rows of ids `(rows, tokens)`."""
        wanted = ids + (mix.index * self._vocabulary)[:, None]
        places = torch.searchsorted(self._keys, wanted).clamp_(max=len(self._keys) - 1)
        return torch.where((self._keys[places] == wanted)[..., None], self._rows[places], y)

    def write_logits(self, x: torch.Tensor, y: torch.Tensor, mix: Mix) -> None:
        """Write the replaced tokens' logits, from x `(rows, tokens, hidden)`, into y `(rows, tokens, vocabulary)`."""
        for adapter, (ids, matrix) in self._by_adapter.items():
            if adapter in mix.present:
                rows = rows_of(mix, adapter)
                places = torch.arange(y.shape[1], device=y.device)
                y[rows[:, None, None], places[:, None], ids] = F.linear(x[rows], matrix)
