"""Modules that give each row of the batch its own adapter.

They call the base's module and then change the rows that need it; they know nothing of peft.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from service.engine.rowwise.changes import Gains, Tokens
from service.engine.rowwise.factors import Downs, Factors
from service.engine.rowwise.parts import Part
from service.engine.rowwise.routing import Mix, Routing, rows_of


class RowModule(nn.Module):
    """A module of the base, and what each adapter does to it.

    Whatever else is read from it (`weight`, `in_features`, `embed_scale`) is the base module's.

    Args:
        base: The base's module; its tensors are shared.
        parts: By adapter, ascending.
        routing: Shared by the whole tree.
        dims: Number of inputs (of an embedding: rows) and outputs.

    Attributes:
        factors: Low-rank factors, or None if no adapter has any.
        downs: Their first half, shared with the modules that read the same tensor; set once all are built.
    """

    def __init__(self, base: Any, parts: Mapping[int, Part], routing: Routing, dims: tuple[int, int]) -> None:
        super().__init__()
        self.base = base
        self._routing = routing
        self._dims = dims
        self._own = {adapter: part.own for adapter, part in parts.items() if part.own is not None}
        low = {adapter: part for adapter, part in parts.items() if part.down is not None or part.shift is not None}
        tensors = [one for part in low.values() for one in (part.down, part.shift) if one is not None]
        self.factors = Factors(low, dims, tensors[0]) if low else None
        self.downs: Downs | None = None
        gained = {adapter: part.gain for adapter, part in parts.items() if part.gain is not None}
        self._gains = Gains(gained, getattr(base, "bias", None), routing.num_adapters) if gained else None
        tokens = {adapter: part for adapter, part in parts.items() if part.token_ids is not None}
        self._tokens = Tokens(tokens, base.weight.shape[0]) if tokens else None

    @property
    def apart(self) -> frozenset[int]:
        """Adapters whose rows are computed apart, wherever they stand: not the same operations for every batch."""
        return frozenset(self._own)

    def __getattr__(self, name: str) -> Any:
        """Read from the base's module what this one does not have."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base"), name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what each row's adapter makes of x: `(rows, ..., in)`, or token ids `(rows, tokens)`."""
        mix = self._routing.mix
        if mix is None:
            return self._modules["base"](x)  # type: ignore[no-any-return,misc]
        return self._mixed(x, mix)

    def _mixed(self, x: torch.Tensor, mix: Mix) -> torch.Tensor:
        raise NotImplementedError

    def _replaced(self, x: torch.Tensor, y: torch.Tensor, mix: Mix) -> None:
        """Write into y the rows of adapters that have a module of their own."""
        for adapter, module in self._own.items():
            if adapter in mix.present:
                rows = rows_of(mix, adapter)
                y[rows] = module(x[rows])


class RowLinear(RowModule):
    """A linear layer with an adapter for each row."""

    @property
    def apart(self) -> frozenset[int]:
        """Trained tokens' logits are written into the rows of their adapters, too."""
        return super().apart | (self._tokens.adapters if self._tokens else frozenset())

    def _mixed(self, x: torch.Tensor, mix: Mix) -> torch.Tensor:
        num_rows, (num_in, num_out) = len(mix.rows), self._dims
        if x.shape[0] != num_rows and (x.dim() != 2 or x.shape[0] % num_rows):
            raise ValueError(f"{num_rows} rows have an adapter each, the batch has the shape {tuple(x.shape)}")
        inputs = x.reshape(num_rows, -1, num_in)
        if self._own and mix.present.issubset(self._own):
            outputs = x.new_empty(num_rows, inputs.shape[1], num_out)
        else:
            outputs = self._modules["base"](x).reshape(num_rows, -1, num_out).contiguous()  # type: ignore[misc]
        if self._gains is not None:
            outputs = self._gains.apply(outputs, mix)
        if self.factors is not None and self.downs is not None:
            outputs = self.factors.add(self.downs.inner(self.factors, x, mix), outputs, mix)
        if self._tokens is not None:
            self._tokens.write_logits(inputs, outputs, mix)
        if self._own:
            self._replaced(inputs, outputs, mix)
        return outputs.view(*x.shape[:-1], num_out)


class RowEmbedding(RowModule):
    """An embedding with an adapter for each row."""

    def _mixed(self, x: torch.Tensor, mix: Mix) -> torch.Tensor:
        if x.shape[0] != len(mix.rows):
            raise ValueError(f"{len(mix.rows)} rows have an adapter each, the batch has the shape {tuple(x.shape)}")
        outputs: torch.Tensor = self._modules["base"](x)  # type: ignore[misc]
        if self._gains is not None:
            outputs = self._gains.apply(outputs, mix)
        if self.factors is not None and self.downs is not None:
            outputs = self.factors.add(self.downs.embedded(x, mix), outputs, mix)
        if self._tokens is not None:
            outputs = self._tokens.embed(x, outputs, mix)
        if self._own:
            self._replaced(x, outputs, mix)
        return outputs
