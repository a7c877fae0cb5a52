"""Linear layers for bfloat16 weights on a CPU, where PyTorch's own are slow for few rows and for many.

For few rows the time goes into reading the weight, and PyTorch reads it in the wrong order. For many rows MKL
multiplies float32 half as fast again as oneDNN multiplies bfloat16, and the sums are as exact. Measured by
`benchmarks/linear.py`.
"""

from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn

from service.engine.lean import kernels

FEW = 8
"""Rows that oneDNN's order is chosen for."""
MANY = 80
"""Rows from which on it pays to turn a weight into float32."""
VERY_MANY = 512
"""Rows from which on that is faster than panels, too."""


PART = 1 << 22
"""Numbers of a weight that are turned at once: glibc asks the system for more than 32 MB each time."""


class WideLinear(nn.Linear):
    """Stands for a linear layer that sees prompts and pictures; its tensors are those of the layer."""

    @classmethod
    def like(cls, inner: nn.Linear) -> Self:
        """Take over a layer's tensors."""
        one = cls(inner.in_features, inner.out_features, bias=inner.bias is not None, device="meta")
        one.weight, one.bias = inner.weight, inner.bias
        return one.train(inner.training)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return `(..., out_features)`."""
        if input.numel() < MANY * self.in_features:
            return super().forward(input)
        return self._in_float32(input)

    def _in_float32(self, input: torch.Tensor) -> torch.Tensor:
        """Turn a part of the weight after the other: for a whole one of 4 B parameters memory would be taken anew."""
        count = -(-self.weight.numel() // PART)
        biases = [None] * count if self.bias is None else self.bias.float().tensor_split(count)
        wide = input.float()
        parts = [
            F.linear(wide, weight.float(), bias).to(input.dtype)
            for weight, bias in zip(self.weight.tensor_split(count), biases, strict=True)
        ]
        return parts[0] if count == 1 else torch.cat(parts, -1)


class LaidOutLinear(WideLinear):
    """Stands for a linear layer that sees few rows and many; keeps its weight a second time, as a kernel reads it.

    Needs the kernels. A weight that was exchanged or changed in place, as PEFT does in a copy of a layer, is laid
    out anew when it is next used; not one that was changed in place through its `data`, as PEFT does where it merges
    without care: PyTorch does not count that.
    """

    panels: torch.Tensor
    wide_bias: torch.Tensor | None

    @classmethod
    def like(cls, inner: nn.Linear) -> Self:
        """Take over a layer's tensors and lay the weight out."""
        one = super().like(inner)
        one._lay_out()
        return one

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return `(..., out_features)`."""
        if not self._suits(input):
            return super().forward(input)
        if self._laid_out != self._state():
            self._lay_out()
        return self._product(input)

    def _suits(self, input: torch.Tensor) -> bool:
        return kernels.suit(input, self.weight)

    def _product(self, input: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _panels(self) -> torch.Tensor:
        """Return the weight as the kernel reads it."""
        raise NotImplementedError

    def _lay_out(self) -> None:
        self.register_buffer("panels", self._panels(), persistent=False)
        bias = None if self.bias is None else self.bias.detach().float()
        self.register_buffer("wide_bias", bias, persistent=False)
        self._laid_out = self._state()

    def _state(self) -> object:
        weight, bias = self.weight, self.bias
        of_bias = None if bias is None else (bias.data_ptr(), _version(bias))
        return weight.data_ptr(), _version(weight), of_bias


class PanelLinear(LaidOutLinear):
    """Keeps the weight in panels of bfloat16."""

    def _product(self, input: torch.Tensor) -> torch.Tensor:
        if input.numel() >= VERY_MANY * self.in_features:
            return self._in_float32(input)
        return kernels.product(input, self.panels, self.wide_bias, len(self.weight))

    def _panels(self) -> torch.Tensor:
        return kernels.laid_out(self.weight)


def _version(tensor: torch.Tensor) -> int:
    """Return how often a tensor was changed in place; those made for inference do not count it."""
    return 0 if tensor.is_inference() else tensor._version


class PackedLinear(nn.Module):
    """Stands for a linear layer that decodes, where there is no kernel; keeps its weight again, in oneDNN's order.

    The two operators are private in PyTorch 2.13; a test notices their end.

    Args:
        inner: The layer; its own weight stays what others read.
    """

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = inner.in_features, inner.out_features
        self.weight, self.bias = inner.weight, inner.bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(inner.weight.detach(), FEW)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `(..., out_features)`."""
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return y


def can_gain(module: nn.Module) -> bool:
    """Say whether a module is a linear layer that gains from any of these."""
    return (
        type(module) in (nn.Linear, WideLinear)
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )
