"""Weights of 8 bits: what they take, and what rounding to them does to logits.

Judges no difference; which layers are rounded and how, `lean` knows.
"""

from typing import Any

import torch

from service.engine.lean import has_eight_bit, in_full, kernels
from service.engine.probing import Probe, relative_difference
from service.errors import CheckpointUnreadable


def require_eight_bit(device: torch.device, dtype: torch.dtype) -> None:
    """Hold device and dtype to what computing with weights of 8 bits takes.

    Raises:
        CheckpointUnreadable: That is lacking; the message names it, and the way out.
    """
    name = str(dtype).removeprefix("torch.")
    if device.type != "cpu":
        raise CheckpointUnreadable(
            f"MINICPM_QUANTIZATION=int8 is for CPUs, and the device is {device}: set MINICPM_DEVICE=cpu, or leave "
            "MINICPM_QUANTIZATION unset"
        )
    if dtype is not torch.bfloat16:
        raise CheckpointUnreadable(
            f"MINICPM_QUANTIZATION=int8 rounds bfloat16 weights, and they are loaded in {name}: set "
            "MINICPM_DTYPE=bfloat16, or leave MINICPM_QUANTIZATION unset"
        )
    if lacking := kernels.lacking():
        raise CheckpointUnreadable(
            f"MINICPM_QUANTIZATION=int8 needs kernels, and {lacking}: use a CPU with AVX-512 and install a C compiler "
            "(cc), or leave MINICPM_QUANTIZATION unset"
        )


def require_rounded(model: Any) -> None:
    """Hold a model to having layers that could be rounded.

    Raises:
        CheckpointUnreadable: It has none.
    """
    if not has_eight_bit(model):
        raise CheckpointUnreadable(
            "MINICPM_QUANTIZATION=int8 rounds linear layers in bfloat16, and the language model has none: leave "
            "MINICPM_QUANTIZATION unset"
        )


def quantization_difference(probe: Probe, model: Any, rounded: torch.Tensor) -> float | None:
    """Compare logits of weights of 8 bits with those of the weights that they were rounded from.

    Args:
        probe: The question.
        model: The base, or a view of it.
        rounded: What it answered.

    Returns:
        The largest difference as a share of the largest logit, NaN if not finite; None without weights of 8 bits.
    """
    if not has_eight_bit(model):
        return None
    with in_full(model):
        return relative_difference(rounded, probe.logits(model))
