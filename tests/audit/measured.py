"""Measures folders that only the model in memory shows to be broken."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from service.domain.facts import LoadedFacts
from service.engine import measuring
from service.engine.loading import LoadPlan, load

torch.set_num_threads(1)


def measure(base: Path, adapters: Mapping[str, Path], merged: Path | None = None, **more: Any) -> LoadedFacts:
    """Load folders on the CPU, measure, and let go."""
    return measuring.measure(load(LoadPlan(base, adapters, merged, frozenset(), device="cpu", **more)))
