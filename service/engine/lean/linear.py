"""Linear layers in the order in which oneDNN multiplies, for 16-bit weights on a CPU.

PyTorch brings a weight into that order at every call, which for a few rows costs as much as multiplying. The two
operators are private in PyTorch 2.13; a test notices their end.
"""

import torch
from torch import nn

ROWS = 8
"""For how many rows the order is chosen."""


class PackedLinear(nn.Module):
    """Stands for a linear layer; keeps its weight a second time.

    Args:
        inner: The layer; its own weight stays what others read.
    """

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = inner.in_features, inner.out_features
        self.weight, self.bias = inner.weight, inner.bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(inner.weight.detach(), ROWS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `(..., out_features)`."""
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return y


def can_pack(module: nn.Module) -> bool:
    """Say whether a module is a linear layer that gains from it."""
    return (
        type(module) is nn.Linear
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )
