"""One forward pass on a fixed question, to compare models by their logits.

Judges nothing; the thread that owns the device calls it.
"""

from typing import Any

import torch

from service.engine.families.family import Encoder, Family

RUN_TO_RUN = 1e-2
"""Share of the largest logit by which two runs of one model in 16 bits may differ."""


class Probe:
    """A fixed, encoded question.

    Args:
        family: Knows the question.
        encoder: Of the base, so that every adapter reads the same ids.
        device: Where the models are.
    """

    def __init__(self, family: Family, encoder: Encoder, device: torch.device) -> None:
        message, pictures = family.probe()
        self._inputs = encoder.encode([message], pictures).on(device)

    def logits(self, model: Any) -> torch.Tensor:
        """Return float32 logits `(tokens, vocabulary)` on the CPU."""
        with torch.inference_mode():
            output = model(**self._inputs, use_cache=False)
        logits: torch.Tensor = output.logits[0].float().cpu()
        return logits


def largest_difference(left: torch.Tensor, right: torch.Tensor) -> float:
    """Compare logits over the vocabulary rows that both have; NaN if either is not finite."""
    rows = min(left.shape[-1], right.shape[-1])
    return float((left[..., :rows] - right[..., :rows]).abs().max())


def relative_difference(left: torch.Tensor, right: torch.Tensor) -> float:
    """Return the largest difference as a share of the largest logit on the right; NaN or infinite if any is."""
    return float(torch.tensor(largest_difference(left, right)) / right.abs().max())


def differs(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Say whether the same model can hardly have given both logits; a GPU may add up in another order each time."""
    scale = float(left.abs().max())
    return not largest_difference(left, right) <= RUN_TO_RUN * scale
