"""Low-rank factors of all adapters, applied to all rows at once, each row with its own.

Knows tensors and a mix of adapters; knows no module and nothing of peft.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from service.engine.rowwise.parts import Part
from service.engine.rowwise.routing import Mix, Routing, picked


class Factors:
    """The factors of one module's adapters.

    An adapter with a shift has one column more, which is 1 for its rows.

    Args:
        parts: By adapter, ascending.
        dims: Number of inputs and outputs.
        like: Gives dtype and device.

    Attributes:
        spans: Adapter and number of columns, in the order of the columns.
        down: `(columns, in)`, until `Downs` takes it.
        ones: `(columns,)`, 1 in the columns of shifts.
    """

    def __init__(self, parts: Mapping[int, Part], dims: tuple[int, int], like: torch.Tensor) -> None:
        downs, ups, ones, spans = [], [], [], []
        for adapter, part in parts.items():
            rank = 0 if part.down is None else len(part.down)
            downs += [] if part.down is None else [part.down.to(like)]
            ups += [] if part.up is None else [part.up.to(like)]
            ones += [0.0] * rank
            if part.shift is not None:
                downs.append(like.new_zeros(1, dims[0]))
                ups.append(part.shift[None].to(like))
                ones.append(1.0)
            spans.append((adapter, rank + (part.shift is not None)))
        self.spans = tuple(spans)
        self.down = torch.cat(downs)
        self.ones = torch.tensor(ones).to(like)
        self._up = torch.cat(ups)
        self._before: tuple[tuple[int, int], ...] = ()
        self._active: tuple[int, ...] = ()
        self._picked: tuple[slice, torch.Tensor] | None = None

    def follow(self, before: tuple[tuple[int, int], ...]) -> None:
        """Give the first factors away to a `Downs`, in which these columns come before this module's."""
        self._before = before
        self.down = self.ones = self.down[:0]

    def add(self, inner: torch.Tensor | None, y: torch.Tensor, mix: Mix) -> torch.Tensor:
        """Add to y `(rows, tokens, out)`, in place, what `Downs` made of the inputs."""
        if mix.active != self._active:
            self._active, self._picked = mix.active, self._pick(mix.active)
        if inner is None or self._picked is None:
            return y
        where, up = self._picked
        flat = y.view(-1, y.shape[-1])
        if y.dtype == up.dtype:
            flat.addmm_(inner[:, where], up)
        else:
            flat.add_(inner[:, where] @ up)
        return y

    def _pick(self, active: tuple[int, ...]) -> tuple[slice, torch.Tensor] | None:
        """Return which of the picked columns are this module's, and their second factors `(picked, out)`."""
        columns = picked(self.spans, active)
        if columns is None:
            return None
        start = sum(width for adapter, width in self._before if adapter in active)
        up = _computable(self._up, columns)
        return slice(start, start + len(up)), up


class Downs:
    """The first factors of the modules that read one tensor; what it becomes is computed once for all of them.

    Args:
        modules: In the order of the calls.
        routing: Knows the columns.
    """

    def __init__(self, modules: Sequence[Factors], routing: Routing) -> None:
        spans = tuple(span for one in modules for span in one.spans)
        self._columns = routing.columns(spans)
        self._down = torch.cat([one.down for one in modules])
        self._ones = torch.cat([one.ones for one in modules])
        self._has_ones = bool(self._ones.any())
        self._active: tuple[int, ...] = ()
        self._picked: tuple[torch.Tensor, torch.Tensor | None] | None = None
        self._first, self._last = modules[0], modules[-1]
        self._kept: tuple[torch.Tensor | None, int, torch.Tensor | None] = (None, -1, None)
        count = 0
        for one in modules:
            one.follow(spans[:count])
            count += len(one.spans)

    def inner(self, reader: Factors, x: torch.Tensor, mix: Mix) -> torch.Tensor | None:
        """Return what x `(rows, ..., in)` becomes: `(rows * tokens, picked)`; None if no adapter of the mix is here.

        The first reader computes it, the next ones find it, if they really read the same tensor.
        """
        tensor, serial, inner = self._kept
        if reader is self._first or tensor is not x or serial != mix.serial:
            inner = self._compute(x, mix, is_embedding=False)
            self._kept = (x, mix.serial, inner)
        if reader is self._last:
            self._kept = (None, -1, None)
        return inner

    def embedded(self, ids: torch.Tensor, mix: Mix) -> torch.Tensor | None:
        """Return what ids `(rows, tokens)` become in an embedding: `(rows * tokens, picked)`."""
        return self._compute(ids, mix, is_embedding=True)

    def _compute(self, x: torch.Tensor, mix: Mix, *, is_embedding: bool) -> torch.Tensor | None:
        pick = mix.picks[self._columns.place]
        if pick is None:
            return None
        if mix.active != self._active or self._picked is None:
            ones = _computable(self._ones, pick.where) if self._has_ones else None
            self._active, self._picked = mix.active, (_computable(self._down, pick.where), ones)
        down, ones = self._picked
        if is_embedding:
            inner = down.index_select(1, x.flatten()).T.contiguous()
        else:
            inner = F.linear(x.reshape(-1, x.shape[-1]).to(down.dtype), down, ones)
        if pick.hidden is not None:  # overwritten, not multiplied by zero: another row's numbers may be infinite
            inner.view(len(mix.rows), -1, inner.shape[1]).masked_fill_(pick.hidden, 0)
        return inner


@torch.inference_mode(False)
@torch.no_grad()
def _computable(factor: torch.Tensor, columns: slice | torch.Tensor | list[int]) -> torch.Tensor:
    """Return some rows of a factor, on a CPU in float32.

    Products of this size take a quarter of the time there that they take in 16 bits.
    """
    rows = factor[columns]
    return rows.float() if rows.device.type == "cpu" else rows
