"""A norm that moved far while no matrix did is refused, unless the head may hold what it gave away."""

from dataclasses import replace
from pathlib import Path

import pytest
from pairs import copy_pair, only

from service.audit.judging import audit
from service.domain.facts import TensorChange
from service.domain.judgement import Severity
from tests.builders import EMBEDDING, HEAD

NORM = "model.vision_tower.post_layernorm.weight"
DOUBLED, HALVED, TRAINED = (
    TensorChange(1.0, 0.0, length=2.0),
    TensorChange(0.5, 0.0, length=0.5),
    TensorChange(0.1, 0.01),
)


@pytest.mark.parametrize(
    ("beside", "is_refused"),
    [
        ({}, True),
        ({EMBEDDING: TRAINED, HEAD: TRAINED}, True),
        ({HEAD: HALVED}, False),
        ({"model.language_model.layers.0.mlp.up_proj.weight": TRAINED}, False),
    ],
)
def test_vocabulary_matrices_that_were_trained_take_no_scale(
    beside: dict[str, TensorChange], is_refused: bool, tmp_path: Path
) -> None:
    facts = copy_pair(tmp_path, tuned="base").facts()
    assert facts.origin is not None
    moved = replace(facts, origin=replace(facts.origin, changed={NORM: DOUBLED, **beside}))
    fatal = [one for one in audit(moved).findings() if one.severity is Severity.FATAL]
    said = [one for one in fatal if one.message.startswith("1 norm(s) differ")]
    assert len(said) == is_refused
    if is_refused:
        only(fatal, "origin")
