"""Copies of the base's matrices in an adapter are compared piece by piece, as if they were compared whole."""

import numpy as np
import pytest

from service.checkpoint.vocabulary import tensor_turn, turn

RANDOM = np.random.default_rng(0)
OLD = RANDOM.standard_normal(1000, dtype=np.float32)
NEW = {
    "the_same": OLD,
    "shrunk": OLD * np.float32(0.9),
    "rounded": OLD.astype(np.float16).astype(np.float32),
    "turned": OLD + np.float32(0.1) * RANDOM.standard_normal(1000, dtype=np.float32),
    "zero": np.zeros_like(OLD),
    "opposite": -OLD,
    "not_finite": np.where(np.arange(1000) == 500, np.float32("nan"), OLD),
}


@pytest.mark.parametrize("name", NEW)
def test_a_tensor_in_pieces_turns_as_far_as_the_whole(name: str) -> None:
    pieces = zip(np.split(OLD, 10), np.split(NEW[name], 10), strict=True)
    assert tensor_turn(pieces) == pytest.approx(turn(OLD, NEW[name]), abs=1e-9)


def test_a_tensor_that_was_zero_turns_throughout() -> None:
    assert tensor_turn([(np.zeros_like(OLD), OLD)]) == 1.0
