"""Gated DeltaNet with fewer passes over the recurrent state.

With kernels, all tokens of prompts and answers go through the state one by one, in the processor's cache. Without them,
one token per row reads the state twice and writes it twice, in place, and prompts are left to transformers.

Source: "Gated Delta Networks" (arXiv 2412.06464); transformers' `torch_recurrent_gated_delta_rule`, which passes over
the state eight times a token, is what it is held to.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5RMSNormGated

from service.engine.lean import kernels

EPSILON = 1e-6
"""Of the length of queries and keys, as in transformers."""


class LeanDeltaNet(nn.Module):
    """Stands for a `Qwen3_5GatedDeltaNet`, whose modules it calls, adapters included.

    Args:
        inner: The module; it computes whatever this one does not.
    """

    @torch.no_grad()
    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner
        self.layer_idx = inner.layer_idx
        self._groups = inner.num_v_heads // inner.num_k_heads
        self._sizes = [inner.key_dim, inner.key_dim, inner.value_dim]
        self._kernel = inner.conv1d.weight.squeeze(1).T.float().contiguous()  # (taps, channels)
        self._rate = -inner.A_log.float().exp()  # (value heads,)
        self._constants = -self._rate, inner.dt_bias.float(), inner.norm.weight.float()
        self._has_kernels = (
            inner.conv1d.weight.dtype == torch.bfloat16
            and inner.head_v_dim % kernels.LANES == 0
            and type(inner.norm) is Qwen3_5RMSNormGated
            and inner.activation == inner.norm.activation == "silu"
            and kernels.are_there()
        )

    def forward(
        self, hidden_states: torch.Tensor, cache_params: Any = None, attention_mask: Any = None, **more: Any
    ) -> torch.Tensor:
        """Return `(rows, tokens, hidden)`; the cache's states are updated."""
        past = None if cache_params is None else cache_params.get_conv_state(self.layer_idx)
        if hidden_states.shape[1] != 1:
            past = None  # its place is too small for what is to be convolved
        if self._has_kernels and attention_mask is None and cache_params is not None and kernels.suit(hidden_states):
            return self._all(hidden_states, cache_params, past)
        if past is not None:
            return self._one_more(hidden_states, cache_params, past)
        return self.inner(  # type: ignore[no-any-return]
            hidden_states, cache_params=cache_params, attention_mask=attention_mask, **more
        )

    def _all(self, x: torch.Tensor, cache: Any, past: torch.Tensor | None) -> torch.Tensor:
        """Compute all tokens with kernels; of one token per row, the states are changed where they are."""
        inner = self.inner
        mixed = inner.in_proj_qkv(x)
        taps = len(self._kernel)
        if past is not None:
            window = torch.cat([past[:, :, 1:].transpose(1, 2), mixed], dim=1)
            past.copy_(window.transpose(1, 2))
        else:
            whole = cache.update_conv_state(mixed.transpose(1, 2), self.layer_idx, conv_kernel_size=taps)
            length = taps - 1 + x.shape[1]
            window = F.pad(whole, (max(0, length - whole.shape[-1]), 0))[..., -length:].transpose(1, 2)
        state = cache.get_recurrent_state(self.layer_idx)
        if state is None:
            state = torch.zeros(len(x), inner.num_v_heads, inner.head_k_dim, inner.head_v_dim)
        changed = state.contiguous()
        output = kernels.delta_net(
            kernels.convolve(window, self._kernel),
            (inner.in_proj_a(x), inner.in_proj_b(x), inner.in_proj_z(x)),
            self._constants,
            changed,
            inner.num_k_heads,
            inner.norm.variance_epsilon,
        )
        if past is None or changed is not state:
            cache.update_recurrent_state(changed, self.layer_idx)
        return inner.out_proj(output)  # type: ignore[no-any-return]

    def _one_more(self, hidden_states: torch.Tensor, cache_params: Any, past: torch.Tensor) -> torch.Tensor:
        """Compute one token per row without kernels."""
        inner, num_rows = self.inner, hidden_states.shape[0]
        mixed = _convolve(past, inner.in_proj_qkv(hidden_states)[:, 0], self._kernel)
        query, key, value = torch.split(mixed, self._sizes, dim=-1)
        query, key = (_unit(one.view(num_rows, inner.num_k_heads, -1)) for one in (query, key))
        if self._groups > 1:
            query, key = (one.repeat_interleave(self._groups, dim=1) for one in (query, key))
        beta = inner.in_proj_b(hidden_states)[:, 0].float().sigmoid()
        decay = (self._rate * F.softplus(inner.in_proj_a(hidden_states)[:, 0].float() + inner.dt_bias)).exp()
        state = cache_params.get_recurrent_state(self.layer_idx)
        value = value.reshape(num_rows, inner.num_v_heads, -1)
        output = _recur(state, query * query.shape[-1] ** -0.5, key, value, decay, beta).to(hidden_states.dtype)
        gate = inner.in_proj_z(hidden_states).reshape(-1, inner.head_v_dim)
        output = inner.norm(output.reshape(-1, inner.head_v_dim), gate)
        return inner.out_proj(output.reshape(num_rows, 1, -1))  # type: ignore[no-any-return]


def _convolve(past: torch.Tensor, new: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Push a column `(rows, channels)` into the past `(rows, channels, kernel)`; return its convolution in float32."""
    columns = past.transpose(1, 2)
    columns[:, :-1] = columns[:, 1:].clone()
    columns[:, -1] = new
    mixed = (columns * kernel).sum(1)
    return F.silu(mixed.to(new.dtype)).float()


def _unit(heads: torch.Tensor) -> torch.Tensor:
    return heads * torch.rsqrt(heads.square().sum(-1, keepdim=True) + EPSILON)


def _recur(
    state: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    decay: torch.Tensor,
    beta: torch.Tensor,
) -> torch.Tensor:
    """Advance the state by one token.

    What is read from the state after the update is read before it, and the update's share added: (dS + k u)q = d(Sq) +
    (kq)u.

    Args:
        state: `(rows, heads, key size, value size)` float32, changed in place.
        query: `(rows, heads, key size)` float32, scaled.
        key: Of the same shape, of length one.
        value: `(rows, heads, value size)` float32.
        decay: `(rows, heads)`, what is left of the state.
        beta: `(rows, heads)`, how much of what is new is learnt.

    Returns:
        `(rows, heads, value size)` float32.
    """
    flat = state.view(-1, *state.shape[2:])
    keys = key.reshape(-1, key.shape[-1], 1)
    read = torch.bmm(torch.stack([key, query], dim=2).view(-1, 2, key.shape[-1]), flat).view(*key.shape[:2], 2, -1)
    read = read * decay[..., None, None]
    update = (value - read[:, :, 0]) * beta[..., None]
    flat.mul_(decay.reshape(-1, 1, 1)).baddbmm_(keys, update.view(-1, 1, value.shape[-1]))
    return torch.addcmul(read[:, :, 1], (key * query).sum(-1, keepdim=True), update)
