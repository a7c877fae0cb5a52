"""Slots: a budget cut into rows, cut anew as sequences need it, with nobody's tokens lost or seen by another."""

from pathlib import Path

import pytest
import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer, LinearAttentionLayer

from service.engine import memory
from service.engine.slots import BatchedSlots, SeparateSlots, cache_bytes, can_batch

HEADS, SIZE = 2, 4
PER_TOKEN = 2 * HEADS * SIZE * 4
PER_STATE = (6 * 3 + 2 * 4 * 5) * 4


def prompt(tokens: int, mark: float, *, with_state: bool = True) -> Cache:
    """A prompt's cache whose every number tells whose it is."""
    attention = DynamicLayer()
    attention.update(*(torch.full((1, HEADS, tokens, SIZE), mark + side) for side in (0.25, 0.5)))
    if not with_state:
        return Cache(layers=[attention])
    state = LinearAttentionLayer()
    state.update_conv_state(torch.full((1, 6, 3), float(mark)))
    state.update_recurrent_state(torch.full((1, 2, 4, 5), float(mark)))
    return Cache(layers=[state, attention])


def made(tokens: int, max_slots: int = 8, context: int = 4096, *, with_state: bool = True) -> BatchedSlots:
    """Slots whose attention has room for so many tokens."""
    budget = tokens * PER_TOKEN + (max_slots * PER_STATE if with_state else 0)
    return BatchedSlots(prompt(3, 0, with_state=with_state), budget, context, max_slots)


def assert_holds(slots: BatchedSlots, row: int, tokens: int, mark: float) -> None:
    cache = slots.extract(row, tokens)
    attention = cache.layers[-1]
    assert attention.keys.shape == (1, HEADS, tokens, SIZE)
    assert (attention.keys == mark + 0.25).all()
    assert (attention.values == mark + 0.5).all()
    if len(cache.layers) > 1:
        assert (cache.layers[0].recurrent_states[0] == mark).all()
        assert (cache.layers[0].conv_states[0] == mark).all()


def test_what_goes_in_comes_out_of_every_row() -> None:
    slots = made(4096)
    for row, tokens in enumerate((3, 70, 130)):
        slots.insert(row, prompt(tokens, row), tokens, tokens + 10)
    for row, tokens in enumerate((3, 70, 130)):
        assert_holds(slots, row, tokens, row)


def test_rows_are_cut_longer_for_a_long_sequence_and_keep_what_they_had() -> None:
    slots = made(1024, with_state=False)
    slots.insert(0, prompt(10, 0, with_state=False), 10, 20)
    slots.insert(1, prompt(12, 1, with_state=False), 12, 20)
    slots.insert(2, prompt(200, 2, with_state=False), 200, 300)
    for row, tokens in enumerate((10, 12, 200)):
        assert_holds(slots, row, tokens, row)
    assert slots.fits([20, 20, 300])
    assert not slots.fits([20, 20, 300, 20])  # 4 x 320 tokens are more than 1024
    assert slots.fits([20] * 8)


def test_rows_are_cut_shorter_again_when_more_short_ones_come() -> None:
    slots = made(512, with_state=False)
    slots.insert(0, prompt(300, 0, with_state=False), 300, 400)
    slots.pop()
    for row in range(8):
        assert slots.fits([60] * (row + 1))
        slots.insert(row, prompt(50, row, with_state=False), 50, 60)
    for row in range(8):
        assert_holds(slots, row, 50, row)


def test_a_row_that_moves_is_whole() -> None:
    slots = made(2048)
    for row in range(3):
        slots.insert(row, prompt(40 + row, row), 40 + row, 100)
    slots.move(2, 0)
    slots.pop()
    assert_holds(slots, 0, 42, 2)
    assert_holds(slots, 1, 41, 1)


def test_a_budget_for_few_states_makes_few_rows_and_one_token_more_does_not_fit() -> None:
    slots = BatchedSlots(prompt(3, 0), PER_STATE * 80, 4096, 64)
    assert slots.num_slots == 40  # half of the budget
    assert slots.max_tokens == PER_STATE * 40 // PER_TOKEN
    assert slots.fits([slots.max_tokens])
    assert not slots.fits([slots.max_tokens + 1])
    assert not slots.fits([1] * 41)


def test_a_budget_beyond_the_context_is_not_taken() -> None:
    slots = made(1_000_000, max_slots=2, context=128, with_state=False)
    assert slots.max_tokens == 128
    assert slots.fits([128, 128])


def test_a_step_writes_one_token_a_row_where_each_one_s_end_is() -> None:
    slots = made(2048, with_state=False)
    for row, tokens in enumerate((5, 9)):
        slots.insert(row, prompt(tokens, row, with_state=False), tokens, 50)
        slots.lengths[row] = tokens
    cache = slots.select(0, 2, 9)
    keys, values = cache.update(torch.full((2, HEADS, 1, SIZE), 7.0), torch.full((2, HEADS, 1, SIZE), 8.0), 0)
    assert keys.shape[2] == slots.width(9) == cache.get_mask_sizes(1, 0)[0] == 64
    for row, tokens in enumerate((5, 9)):
        assert (keys[row, :, :tokens] == row + 0.25).all()
        assert (keys[row, :, tokens] == 7).all()
        assert (values[row, :, tokens] == 8).all()


def test_nothing_that_is_not_finite_stays_behind() -> None:
    slots = made(2048)
    slots.insert(0, prompt(100, float("nan")), 100, 200)
    slots.scrub(0)
    slots.pop()
    free = slots.extract(0, 4)  # a step that is wider than the rows computes with it
    assert all(one.isfinite().all() for one in (free.layers[0].conv_states[0], free.layers[0].recurrent_states[0]))
    slots.insert(0, prompt(4, 1), 4, 200)
    keys, _ = slots.select(0, 1, 4).update(torch.zeros(1, HEADS, 1, SIZE), torch.zeros(1, HEADS, 1, SIZE), 1)
    assert keys.isfinite().all()


def test_rows_that_could_not_be_cut_anew_for_lack_of_memory_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def two_layers(tokens: int, mark: float) -> Cache:
        return Cache(layers=[prompt(tokens, mark, with_state=False).layers[0] for _ in range(2)])

    slots = BatchedSlots(two_layers(3, 0), 2 * 2048 * PER_TOKEN, 4096, 32)
    slots.insert(0, two_layers(50, 0), 50, 60)
    layer, calls = slots._layers[1], iter([True])
    cut = layer.cut

    def cut_or_raise(rows: int, capacity: int, used: int) -> None:
        if next(calls, False):
            raise torch.OutOfMemoryError("no memory")
        cut(rows, capacity, used)

    monkeypatch.setattr(layer, "cut", cut_or_raise)
    with pytest.raises(torch.OutOfMemoryError):
        slots.insert(1, two_layers(200, 1), 200, 300)
    assert not slots.is_whole
    slots.scrub(0)
    slots.pop()
    for row in range(2048 // 64):  # more rows than the first layer has now
        slots.insert(row, two_layers(40, row), 40, 60)
    assert slots.is_whole
    for row in (0, 31):
        for one in slots.extract(row, 40).layers:
            assert (one.keys == row + 0.25).all()


def test_new_memory_is_zero_so_that_unseen_places_cannot_be_nan() -> None:
    slots = made(2048, with_state=False)
    slots.insert(0, prompt(1, 0, with_state=False), 1, 64)
    keys, _ = slots.select(0, 1, 1).update(torch.ones(1, HEADS, 1, SIZE), torch.ones(1, HEADS, 1, SIZE), 0)
    assert (keys[:, :, 2:] == 0).all()


def test_caches_of_other_kinds_stay_apart() -> None:
    from transformers.cache_utils import DynamicSlidingWindowLayer

    assert can_batch(prompt(3, 0))
    assert not can_batch(Cache(layers=[DynamicSlidingWindowLayer(4)]))
    slots = SeparateSlots(100, 2, torch.device("cpu"))
    first, second = prompt(3, 0), prompt(4, 1)
    slots.insert(0, first, 3, 9)
    slots.insert(1, second, 4, 9)
    assert slots.usage == 1
    assert not slots.fits([1, 1, 1])
    slots.move(1, 0)
    slots.pop()
    assert slots.select(0, 1, 4) is second


def test_bytes_count_keys_values_and_states() -> None:
    assert cache_bytes(prompt(3, 0)) == 3 * PER_TOKEN + PER_STATE


def test_the_budget_is_a_share_or_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(memory, "CGROUP_LIMIT", limit)
    monkeypatch.setattr(memory, "CGROUP_USED", used)
    assert memory.cache_budget(cpu, 5e6) == 5_000_000
    limit.write_text("3000000\n")
    used.write_text("1000000\n")
    assert memory.free_bytes(cpu) == 2_000_000  # what the container may still take
    assert memory.cache_budget(cpu, 0.5) == 1_000_000
    assert memory.cache_budget(cpu, None) == 500_000
    limit.write_text("max\n")
    assert memory.free_bytes(cpu) > 2_000_000
