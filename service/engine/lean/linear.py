"""Linear layers for 16-bit weights on a CPU, where PyTorch's own are slow for few rows and for many.

For few rows PyTorch brings the weight into oneDNN's order at every call, which costs as much as multiplying. For many
rows MKL multiplies float32 half as fast again as oneDNN multiplies bfloat16, and the sums are as exact. Both measured
by `benchmarks/linear.py`.
"""

from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn

FEW = 8
"""Rows that the packed order is chosen for."""
MANY, MANY_KEPT = 80, 32
"""Rows from which on float32 pays: if the weight has to be turned into it first, and if it is kept in it too."""


class WideLinear(nn.Linear):
    """Stands for a linear layer that sees prompts and pictures."""

    wide: torch.Tensor | None
    """The weight in float32, if it is kept."""

    @classmethod
    def like(cls, inner: nn.Linear, *, is_kept: bool = False) -> Self:
        """Take over a layer's tensors, and keep the weight in float32 too if asked to."""
        one = cls(inner.in_features, inner.out_features, bias=inner.bias is not None, device="meta")
        one.weight, one.bias = inner.weight, inner.bias
        one.register_buffer("wide", inner.weight.detach().float() if is_kept else None, persistent=False)
        return one.train(inner.training)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return `(..., out_features)`."""
        if input.numel() < (MANY if self.wide is None else MANY_KEPT) * self.in_features:
            return super().forward(input)
        weight = self.weight.float() if self.wide is None else self.wide
        bias = None if self.bias is None else self.bias.float()
        return F.linear(input.float(), weight, bias).to(input.dtype)


class PackedLinear(nn.Module):
    """Stands for a linear layer that decodes; keeps its weight a second time, in oneDNN's order.

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
    """Say whether a module is a linear layer that gains from either."""
    return (
        type(module) in (nn.Linear, WideLinear)
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )
