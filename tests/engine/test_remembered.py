"""What is remembered is what was computed, within its memory, and never another view's."""

from collections.abc import Sequence
from functools import partial

import pytest
import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from service.engine.families.pictures import PicturePart, feature_bytes
from service.engine.prompt import BLOCK, Beginnings
from service.engine.remembered import FeatureMemory, StateMemory
from service.engine.slots import cache_bytes


def names(ids: Sequence[int], root: bytes = b"view", places: Sequence[int] | None = None) -> Beginnings:
    tokens = torch.tensor(ids, dtype=torch.int64)
    at = torch.arange(len(ids)) if places is None else torch.tensor(places)
    return Beginnings(root, torch.stack([tokens, at, at, at]))


def state(tokens: int, mark: float = 1.0) -> Cache:
    layer = DynamicLayer()
    layer.update(torch.full((1, 1, tokens, 4), mark), torch.full((1, 1, tokens, 4), mark))
    return Cache(layers=[layer])


LONG = list(range(200))


def test_a_name_tells_ids_places_and_view_apart_and_nothing_behind_it() -> None:
    for tokens in (1, 63, 64, 65, 128, 200):
        whole = names(LONG).name(tokens)
        assert names(LONG[:tokens]).name(tokens) == whole
        assert names([*LONG[:tokens], 999]).name(tokens) == whole
        assert names([*LONG[: tokens - 1], 999]).name(tokens) != whole
        assert names(LONG, root=b"other").name(tokens) != whole
        assert names(LONG, places=[place + 1 for place in LONG]).name(tokens) != whole
    assert len({names(LONG).name(tokens) for tokens in range(1, 201)}) == 200


@pytest.mark.parametrize("prompt_tokens", [5, 64, 100])
def test_an_answer_behind_a_prompt_has_the_names_of_the_next_turn_s_prompt(prompt_tokens: int) -> None:
    answered = names(LONG[:prompt_tokens]).followed_by(LONG[prompt_tokens:150], 0)
    assert len(answered) == 150
    assert answered.name(150) == names(LONG).name(150)
    shifted = names(LONG[:prompt_tokens]).followed_by(LONG[prompt_tokens:150], -3)
    assert shifted.name(150) != names(LONG).name(150)


def test_the_longest_kept_beginning_is_found_as_a_copy_and_leaves_something_to_compute() -> None:
    memory = StateMemory(1 << 20)
    for tokens in (64, 100, 200):
        memory.keep(names(LONG), tokens, partial(state, tokens, mark=tokens))
    tokens, found = memory.find(names(LONG))
    assert tokens == 100  # all 200 would leave nothing to compute
    assert found is not None
    found.layers[0].keys.zero_()
    _, again = memory.find(names(LONG))
    assert again is not None
    assert (again.layers[0].keys == 100).all()
    assert memory.find(names(LONG, root=b"other")) == (0, None)
    assert memory.find(names([999, *LONG])) == (0, None)


def test_what_two_prompts_share_is_noticed_in_whole_blocks_at_the_second() -> None:
    memory = StateMemory(1 << 20)
    assert memory.shared(names(LONG)) == 0
    assert memory.shared(names([*LONG[:150], 7, 7, 7])) == 2 * BLOCK
    assert memory.shared(names(LONG)) == 3 * BLOCK
    assert memory.shared(names(LONG[:BLOCK])) == 0  # would leave nothing to compute


def test_states_stay_within_their_memory_and_go_by_use() -> None:
    each = cache_bytes(state(10))
    memory = StateMemory(3 * each)
    for mark in range(3):
        memory.keep(names([mark] * 20), 10, partial(state, 10))
    memory.find(names([0] * 20))
    memory.keep(names([9] * 20), 10, partial(state, 10))
    kept = [mark for mark in (0, 1, 2, 9) if memory.has(names([mark] * 20), 10)]
    assert kept == [0, 2, 9]
    assert memory.used_bytes == 3 * each
    memory.keep(names([5] * 20), 10, partial(state, 1000))  # larger than all of it
    assert not memory.has(names([5] * 20), 10)
    memory.forget()
    assert memory.used_bytes == 0
    assert memory.find(names([0] * 20)) == (0, None)


def test_features_are_those_of_the_same_pixels_processing_and_tower() -> None:
    pixels, grid = torch.rand(1, 3, 14, 28), torch.tensor([[1, 2]], dtype=torch.int32)
    part = PicturePart.of({"pixel_values": pixels, "target_sizes": grid}, 2)
    assert PicturePart.of({"target_sizes": grid.clone(), "pixel_values": pixels.clone()}, 2).digest == part.digest
    others = [
        {"pixel_values": pixels + 1e-6, "target_sizes": grid},
        {"pixel_values": pixels, "target_sizes": grid.flip(1)},
        {"pixel_values": pixels, "target_sizes": grid, "downsample_mode": "4x"},
        {"pixel_values": pixels.double(), "target_sizes": grid},
    ]
    assert part.digest not in {PicturePart.of(other, 2).digest for other in others}
    memory = FeatureMemory(1000)
    memory.put(1, part.digest, torch.ones(10))
    assert memory.get(1, part.digest) is not None
    assert memory.get(2, part.digest) is None


def test_features_stay_within_their_memory() -> None:
    memory = FeatureMemory(100)
    memory.put(0, b"large", torch.ones(100))
    assert memory.get(0, b"large") is None
    for name in (b"a", b"b", b"c"):
        memory.put(0, name, [torch.ones(10)])
    assert [memory.get(0, name) is not None for name in (b"a", b"b", b"c")] == [False, True, True]
    assert feature_bytes({"x": [torch.ones(2)], "y": (torch.ones(3, dtype=torch.float64), None)}) == 8 + 24


def test_where_there_is_no_memory_for_a_copy_all_that_is_kept_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Cache:
        raise torch.OutOfMemoryError("no memory")

    memory = StateMemory(1 << 20)
    memory.keep(names(LONG), 64, partial(state, 64))
    memory.keep(names(LONG), 128, fail)
    assert memory.used_bytes == 0
    assert not memory._states.lengths
    memory.keep(names(LONG), 64, partial(state, 64))
    monkeypatch.setattr("service.engine.remembered.copy.deepcopy", fail)
    assert memory.find(names(LONG)) == (0, None)
    assert memory.used_bytes == 0
