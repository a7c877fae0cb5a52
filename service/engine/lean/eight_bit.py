"""Linear layers whose weights are read in 8 bits, half as much as in bfloat16.

A weight is a whole number from -127 to 127 times the scale of its output, the largest weight there / 127. An output
with one weight far beyond the others so rounds these coarsely: whoever quantises compares answers with those of
`in_full`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from service.engine.lean import kernels
from service.engine.lean.kernels import PANEL
from service.engine.lean.linear import PART, LaidOutLinear

LARGEST = 127


class EightBitLinear(LaidOutLinear):
    """Stands for a linear layer; keeps its weight a second time, in panels of 8 bits, and multiplies with these alone.

    Its own weight stays in bfloat16 for those who read it: an embedding that shares it, adapters.
    """

    scale: torch.Tensor
    is_in_full = False
    """Multiplies with the weight as it is instead, see `in_full`."""

    def _suits(self, input: torch.Tensor) -> bool:
        return not self.is_in_full and super()._suits(input)

    def _product(self, input: torch.Tensor) -> torch.Tensor:
        return kernels.product_eight_bit(input, self.panels, self.scale, self.wide_bias)

    def _panels(self) -> torch.Tensor:
        """Return the weight in 8 bits and keep its scale; a part after the other, as float32 takes memory."""
        num_out, num_in = self.weight.shape
        panels = torch.empty(-(-num_out // PANEL), num_in, PANEL, dtype=torch.int8)
        scale = torch.empty(num_out, dtype=torch.float32)
        count = max(1, PART // num_in // PANEL) * PANEL
        for start in range(0, num_out, count):
            values, scale[start : start + count] = quantised(self.weight.detach()[start : start + count])
            panels[start // PANEL : (start + count) // PANEL] = kernels.laid_out_eight_bit(values)
        self.register_buffer("scale", scale, persistent=False)
        return panels


def quantised(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round a matrix to 8 bits.

    Args:
        weight: `(num_out, num_in)`.

    Returns:
        Its values in int8, and the scale of each output in float32. Of an output with a weight that is not finite the
        scale is not finite, and so is what is computed with it.
    """
    wide = weight.float()
    scale = wide.abs().amax(1) / LARGEST
    steps = (wide / scale.where(scale > 0, 1)[:, None]).round_().clamp_(-LARGEST, LARGEST)
    return steps.nan_to_num_(0).to(torch.int8), scale


@contextmanager
def in_full(model: Any) -> Iterator[None]:
    """Let a model compute with its weights as they are, and not in 8 bits, for the time being."""
    layers = _layers(model)
    for one in layers:
        one.is_in_full = True
    try:
        yield
    finally:
        for one in layers:
            one.is_in_full = False


def has_eight_bit(model: Any) -> bool:
    """Say whether a model has such layers."""
    return bool(_layers(model))


def _layers(model: Any) -> list[EightBitLinear]:
    return [one for one in model.modules() if isinstance(one, EightBitLinear)]
