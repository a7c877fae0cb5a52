"""Norms and gates in one pass each, where PyTorch makes eight and three."""

from typing import Any

import torch
from torch import nn
from transformers.activations import SiLUActivation
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP, Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP, Qwen3RMSNorm
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5MLP, Qwen3_5RMSNorm

from service.engine.lean import kernels

NORMS = frozenset({LlamaRMSNorm, Qwen2RMSNorm, Qwen3RMSNorm, Qwen3_5RMSNorm})
MLPS = frozenset({LlamaMLP, Qwen2MLP, Qwen3MLP, Qwen3_5MLP})
SILU = frozenset({nn.SiLU, SiLUActivation})


class LeanNorm(nn.Module):
    """Stands for an RMSNorm; rounds once, where some round twice.

    Args:
        inner: The module; it computes what is not bfloat16.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner
        is_around_one = isinstance(inner, Qwen3_5RMSNorm)  # what it keeps is added to one
        self._epsilon = inner.eps if is_around_one else inner.variance_epsilon
        self._weight = inner.weight.detach().float() + is_around_one

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the same shape."""
        if not kernels.suit(x):
            return self.inner(x)  # type: ignore[no-any-return]
        return kernels.rms_norm(x, self._weight, self._epsilon)


class LeanMLP(nn.Module):
    """Stands for an MLP with a SiLU gate, whose linear layers it calls, adapters included.

    Args:
        inner: The module.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the same shape."""
        gate, up = self.inner.gate_proj(x), self.inner.up_proj(x)
        hidden = kernels.gated(gate, up) if kernels.suit(gate, up) else self.inner.act_fn(gate) * up
        return self.inner.down_proj(hidden)  # type: ignore[no-any-return]


def is_gated_mlp(module: nn.Module) -> bool:
    """Say whether `LeanMLP` can stand for a module."""
    return type(module) in MLPS and type(module.act_fn) in SILU
