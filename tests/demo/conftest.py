"""Loaded demo checkpoints, once for all tests of the room."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from service.demo import demo_root
from service.demo.evaluate import SUBJECTS, load
from tests.conftest import Server


@pytest.fixture(scope="session")
def loaded() -> Callable[[str], tuple[Any, Any]]:
    """Returns a function from a subject's name to its float32 model and its encoding."""

    @cache
    def load_subject(name: str) -> tuple[Any, Any]:
        return load(demo_root(), next(subject for subject in SUBJECTS if subject.name == name))

    return load_subject


@pytest.fixture(scope="session")
def demo_4_5(start_server: Callable[..., Server]) -> Server:
    """The demo in the layout of MiniCPM-V 4.5, named as a user would name it, with its adapter."""
    folder = demo_root() / "minicpmv4_5" / "adapters" / "official"
    return start_server(model="demo-4.5", adapters={"official": str(folder)}).wait_ready()
