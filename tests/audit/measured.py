"""Loads engines for folders that only the model in memory shows to be broken."""

from collections.abc import Mapping
from pathlib import Path

import torch

from service.domain.facts import LoadedFacts
from service.engine.engine import Engine
from service.engine.loading import LoadPlan

torch.set_num_threads(1)


def measure(base: Path, adapters: Mapping[str, Path], merged: Path | None = None) -> LoadedFacts:
    """Load folders on the CPU, measure, and let go."""
    plan = LoadPlan(base, adapters, merged, frozenset(), device="cpu")
    engine = Engine(plan, max_waiting=1)
    try:
        return engine.measure()
    finally:
        engine.stop()
