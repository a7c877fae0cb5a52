"""Changes one module's output for the rows whose adapters ask for it: factors, gains and tokens.

Knows tensors and a mix of adapters; knows no module and nothing of peft.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from service.engine.rowwise.parts import Part
from service.engine.rowwise.routing import Mix, Pick, Routing, rows_of


class Factors:
    """Low-rank factors of all adapters of one module, one under the other.

    An adapter with a shift has one column more, which is 1 for its rows.

    Args:
        parts: By adapter, ascending.
        routing: Knows the columns.
        dims: Number of inputs and outputs.
        like: Gives dtype and device.
    """

    def __init__(self, parts: Mapping[int, Part], routing: Routing, dims: tuple[int, int], like: torch.Tensor) -> None:
        downs, ups, ones, widths = [], [], [], []
        for adapter, part in parts.items():
            has_shift = part.shift is not None
            rank = 0 if part.down is None else len(part.down)
            downs += [] if part.down is None else [part.down.to(like)]
            ups += [] if part.up is None else [part.up.to(like)]
            downs += [like.new_zeros(1, dims[0])] if has_shift else []
            ups += [part.shift[None].to(like)] if part.shift is not None else []
            ones += [0.0] * rank + [1.0] * has_shift
            widths.append((adapter, rank + has_shift))
        self._columns = routing.columns(tuple(widths))
        self._down = torch.cat(downs)
        self._up = torch.cat(ups)
        self._ones = torch.tensor(ones).to(like) if any(ones) else None
        self._picked: tuple[tuple[int, ...], _Picked] | None = None

    def add(self, x: torch.Tensor, y: torch.Tensor, mix: Mix) -> torch.Tensor:
        """Add to y `(rows, tokens, out)`, in place where its dtype allows, what x `(rows, tokens, in)` becomes."""
        pick = mix.picks[self._columns.place]
        if pick is None:
            return y
        down, up, ones = self._of(pick)
        return _add(F.linear(x.to(down.dtype), down, ones), up, y, pick)

    def add_rows(self, ids: torch.Tensor, y: torch.Tensor, mix: Mix) -> torch.Tensor:
        """Add to y `(rows, tokens, out)` what ids `(rows, tokens)` become in an embedding."""
        pick = mix.picks[self._columns.place]
        if pick is None:
            return y
        down, up, _ = self._of(pick)
        return _add(down.index_select(1, ids.flatten()).T.reshape(*ids.shape, -1), up, y, pick)

    def _of(self, pick: Pick) -> "_Picked":
        """Return the factors that a mix needs; those of the last mix are kept, as they may be copies."""
        if self._picked is None or self._picked[0] != pick.adapters:
            ones = None if self._ones is None else self._ones[pick.where]
            self._picked = (pick.adapters, (self._down[pick.where], self._up[pick.where], ones))
        return self._picked[1]


_Picked = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
"""Down `(picked, in)`, up `(picked, out)` and ones `(picked,)`."""


def _add(hidden: torch.Tensor, up: torch.Tensor, y: torch.Tensor, pick: Pick) -> torch.Tensor:
    """Add hidden `(rows, tokens, picked)` times up to y, each row with its own columns.

    Columns of other rows are overwritten, not multiplied by zero: their numbers may be infinite.
    """
    if pick.hidden is not None:
        hidden.masked_fill_(pick.hidden, 0)
    hidden, flat = hidden.reshape(-1, hidden.shape[-1]), y.reshape(-1, y.shape[-1])
    if y.dtype == up.dtype:
        return flat.addmm_(hidden, up).view(y.shape)
    return torch.addmm(flat.to(up.dtype), hidden, up).to(y.dtype).view(y.shape)


class Gains:
    """DoRA's factors, less one, of all adapters of one module.

    Args:
        gains: `(out,)` by adapter.
        bias: Of the base's module; DoRA leaves it as it is.
    """

    def __init__(self, gains: Mapping[int, torch.Tensor], bias: torch.Tensor | None) -> None:
        first = next(iter(gains.values()))
        self._table = first.new_zeros(max(gains) + 1, 1, len(first))
        for adapter, gain in gains.items():
            self._table[adapter, 0] = gain
        self._adapters = frozenset(gains)
        self._bias = bias

    def apply(self, y: torch.Tensor, mix: Mix) -> torch.Tensor:
        """Return y `(rows, tokens, out)` with the rows of DoRA's adapters scaled."""
        for adapter in self._adapters.intersection(mix.present):
            rows = rows_of(mix, adapter)
            mine = y[rows]
            weighted = mine if self._bias is None else mine - self._bias
            y[rows] = torch.addcmul(mine, weighted, self._table[adapter].to(y.dtype))
        return y


class Tokens:
    """Rows of the matrix that adapters replaced, of all adapters of one embedding or head.

    Args:
        parts: By adapter, ascending.
        vocabulary: Rows of the matrix.
    """

    def __init__(self, parts: Mapping[int, Part], vocabulary: int) -> None:
        self._by_adapter = {
            adapter: (part.token_ids, part.token_rows)
            for adapter, part in parts.items()
            if part.token_ids is not None and part.token_rows is not None
        }
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
