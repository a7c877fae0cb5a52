"""What follows from how far weights of 8 bits move a loaded model's logits."""

import pytest

from service.audit.check import AdapterView, BaseView
from service.audit.checks.quantization import CHECK, TOLERANCE
from service.domain.facts import CheckpointFacts, LoadedAdapterFacts, LoadedBaseFacts
from tests.builders import copy_demo


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> CheckpointFacts:
    return copy_demo(tmp_path_factory.mktemp("quantization")).facts()


@pytest.mark.parametrize(
    ("difference", "is_refused"),
    [
        (None, False),
        (0.0, False),
        (TOLERANCE, False),
        (1.01 * TOLERANCE, True),
        (float("inf"), True),
        (float("nan"), True),
    ],
)
def test_base_and_adapter_are_refused_over_the_tolerance_and_where_nothing_is_finite(
    difference: float | None, is_refused: bool, facts: CheckpointFacts
) -> None:
    base = LoadedBaseFacts(1, 1, False, 1, (), (), (), (), True, (), quantization_difference=difference)
    adapter = LoadedAdapterFacts(None, (), (), 1.0, True, False, (), quantization_difference=difference)
    for view in (BaseView(facts.base, base), AdapterView(facts.base, facts.adapters["json"], adapter)):
        found = CHECK.run(view)
        assert [one.severity.value for one in found] == ["fatal"] * is_refused
        assert all("MINICPM_QUANTIZATION" in one.repair for one in found)
