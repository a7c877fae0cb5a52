"""One loaded demo engine, shared by the tests of the engine."""

from collections.abc import Callable, Iterator

import pytest
import torch

from service.audit.usage import control_tokens
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.demo import demo_root
from service.engine.engine import Engine, Limits
from service.engine.loading import LoadPlan, load

torch.set_num_threads(1)

ADAPTERS = ("json", "tokens", "official")


@pytest.fixture(scope="session")
def plan_of() -> Callable[..., LoadPlan]:
    """Make a plan for a folder with the control tokens that the lifecycle would find."""

    def make(folder: object, **more: object) -> LoadPlan:
        location = locate(str(folder))
        facts = read_checkpoint(location, {}).base
        values = {"adapters": {}, "merged_adapter": None, "device": "cpu", "control_tokens": control_tokens(facts)}
        return LoadPlan(location.folder, **{**values, **more})  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def engine(plan_of: Callable[..., LoadPlan]) -> Iterator[Engine]:
    folders = {name: demo_root() / "adapters" / name for name in ADAPTERS}
    one = Engine(load(plan_of(demo_root() / "base", adapters=folders)), Limits(64))
    yield one
    one.stop()
