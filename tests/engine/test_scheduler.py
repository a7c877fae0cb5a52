"""Turns, places and order, in numbers alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from service.engine import headroom
from service.engine.pace import Pace
from service.engine.scheduler import MAX_PREFILLING, Scheduler


@dataclass(eq=False)
class One:
    name: str
    adapter_id: str | None = None
    need: int = 10
    is_second_try: bool = False


def anything(needs: Sequence[int]) -> bool:
    return True


def admitted(scheduler: Scheduler[One], count: int) -> list[str]:
    """Admit and run until so many came in."""
    names: list[str] = []
    while len(names) < count:
        found = scheduler.admit(anything)
        names += [one.name for one in found]
        for one in found:
            scheduler.run(one)
        scheduler.running.clear()
    return names


def test_adapters_take_turns_and_each_one_s_sequences_keep_their_order() -> None:
    scheduler: Scheduler[One] = Scheduler(64)
    for name in ("a1", "a2", "a3", "a4", "b1", "c1", "b2"):
        scheduler.add(One(name, name[0]))
    assert admitted(scheduler, 7) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_no_more_are_inside_than_may_be() -> None:
    scheduler: Scheduler[One] = Scheduler(3)
    for number in range(5):
        scheduler.add(One(str(number)))
    assert len(scheduler.admit(anything)) == 3
    assert (scheduler.num_inside, scheduler.num_waiting) == (3, 2)
    scheduler.run(scheduler.prefilling[0])
    assert scheduler.admit(anything) == []


def test_prompts_are_computed_side_by_side_but_not_without_bound() -> None:
    scheduler: Scheduler[One] = Scheduler(64)
    for number in range(10):
        scheduler.add(One(str(number)))
    assert len(scheduler.admit(anything)) == MAX_PREFILLING


def test_nobody_overtakes_a_sequence_that_waits_for_memory() -> None:
    scheduler: Scheduler[One] = Scheduler(64)
    scheduler.add(One("large", need=100))
    scheduler.add(One("small", need=1))
    assert scheduler.admit(lambda needs: sum(needs) < 50) == []
    assert [one.name for one in scheduler.admit(lambda needs: sum(needs) < 200)] == ["large", "small"]


def test_the_memory_is_asked_for_all_who_are_inside() -> None:
    scheduler: Scheduler[One] = Scheduler(64)
    asked: list[list[int]] = []
    for need in (5, 6, 7):
        scheduler.add(One(str(need), need=need))
    scheduler.admit(lambda needs: asked.append(list(needs)) or True)
    assert asked == [[5], [5, 6], [5, 6, 7]]


def test_prompts_take_turns() -> None:
    scheduler: Scheduler[One] = Scheduler(64)
    for name in ("first", "second", "third"):
        scheduler.add(One(name))
    scheduler.admit(anything)
    assert [one.name for _ in range(4) if (one := scheduler.turn())] == ["first", "second", "third", "first"]


def test_who_leaves_early_is_forgotten_wherever_it_was() -> None:
    scheduler: Scheduler[One] = Scheduler(1)
    first, second = One("first"), One("second")
    scheduler.add(first)
    scheduler.add(second)
    scheduler.admit(anything)
    scheduler.remove(second)
    scheduler.remove(first)
    assert scheduler.num_inside == scheduler.num_waiting == 0
    assert scheduler.turn() is None


def test_pieces_take_about_as_long_as_those_who_decode_can_wait() -> None:
    pace = Pace(512)
    assert pace.allowance(1, 1) == 512  # nothing is known yet
    pace.decoded(0.1)
    pace.prefilled(0.2, 200)
    assert pace.allowance(1, 1) == 190  # 0.1 s x 1.9 / 1 ms
    assert pace.picture_seconds(1, 1) == pytest.approx(0.4)
    assert pace.picture_seconds(1, 3) == pytest.approx(1.2)
    assert pace.picture_seconds(0, 1) == math.inf
    assert pace.allowance(0, 1) == 512
    for _ in range(100):
        pace.decoded(0.001)
    assert pace.allowance(1, 1) == 32  # smaller pieces cost as much


def test_those_who_decode_wait_longer_where_more_have_prompts() -> None:
    pace = Pace(512)
    pace.decoded(0.01)
    pace.prefilled(0.1, 1000)
    assert pace.allowance(4, 1) == pace.allowance(4, 4) == 190
    assert pace.allowance(4, 8) == 380
    assert pace.allowance(1, 16) == 512


def test_those_who_decode_wait_longer_where_they_are_many() -> None:
    pace = Pace(512)
    pace.decoded(0.01)
    pace.prefilled(0.1, 1000)
    assert pace.allowance(2, 1) == pace.allowance(4, 1) == 190
    assert pace.allowance(6, 1) == pytest.approx(285, abs=1)
    assert pace.allowance(8, 1) == pace.allowance(64, 1) == 380
    assert pace.picture_seconds(8, 1) == 2 * pace.picture_seconds(4, 1)


def test_where_long_prompts_come_only_more_who_decode_wait_longer() -> None:
    pace = Pace(512)
    pace.decoded(0.01)
    pace.prefilled(0.1, 1000)
    pace.begun(2000)
    assert pace.allowance(8, 1) == 190
    assert pace.allowance(16, 1) == 380
    for _ in range(64):
        pace.begun(100)
    assert pace.allowance(8, 1) == 380


def test_prompts_that_have_no_place_do_not_count() -> None:
    scheduler: Scheduler[One] = Scheduler(3)
    for name in "abcde":
        scheduler.add(One(name))
    assert scheduler.num_prompts == 3
    scheduler.run(scheduler.admit(anything)[0])
    assert scheduler.num_prompts == 2
    scheduler.max_running = 1  # memory ran out
    assert scheduler.num_prompts == 2


def test_who_is_put_back_comes_before_all_others() -> None:
    scheduler: Scheduler[One] = Scheduler(3)
    for name in ("a1", "b1", "a2", "b2", "c1"):
        scheduler.add(One(name, name[0]))
    first, second, third = scheduler.admit(anything)
    for one in (third, second):  # the youngest first
        scheduler.remove(one)
        scheduler.put_back(one)
    assert [one.name for one in (first, second, third)] == ["a1", "b1", "c1"]
    assert scheduler.admit(anything) == [second, third]


def test_the_prompt_of_a_second_try_is_computed_beside_no_other() -> None:
    scheduler: Scheduler[One] = Scheduler(8)
    for name in "abc":
        scheduler.add(One(name, is_second_try=name == "b"))
    for name in "abc":
        (one,) = scheduler.admit(anything)
        assert one.name == name
        assert scheduler.admit(anything) == []
        scheduler.run(one)


def test_the_number_of_sequences_falls_at_once_and_grows_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headroom, "FIRST_PATIENCE", 3)
    room = headroom.Headroom(8)
    found = []
    for num_inside in (7, 6, 0, 0, 0, 0, 0, 0, 1):
        if num_inside:
            room.ran_out(num_inside)
        for _ in range(3):
            room.went_well(8)
        found.append(room.num_sequences)
    assert found == [7, 5, 6, 6, 7, 7, 8, 8, 2]  # one more after 3 full steps, then after 6 each, and 3 at last


def test_steps_that_are_not_full_do_not_show_that_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headroom, "FIRST_PATIENCE", 1)
    room = headroom.Headroom(8)
    room.ran_out(7)
    room.ran_out(6)  # in the same step
    room.went_well(4)
    assert room.num_sequences == 5
    room.went_well(5)
    assert room.num_sequences == 6


def test_pieces_of_a_prompt_are_of_one_size() -> None:
    assert Pace.piece(64, 64) == 64
    assert Pace.piece(64, 65) == 33
    assert Pace.piece(40, 93) == 31
    assert Pace.piece(512, 300) == 300
    assert Pace.piece(32, 34) == 34  # 17 tokens cost as much as 32
    assert Pace.piece(32, 63) == 32
    assert Pace.piece(17, 20) == 10  # where even the largest is smaller


def test_the_rest_of_an_allowance_may_be_too_small_for_another_piece() -> None:
    assert Pace(512).suffices(32)
    assert not Pace(512).suffices(31)
    assert Pace(7).suffices(7)


def test_one_step_that_took_very_long_does_not_make_everyone_wait_from_then_on() -> None:
    pace = Pace(1 << 20)
    pace.prefilled(1.0, 100_000)
    for _ in range(20):
        pace.decoded(0.005)
    before = pace.allowance(4, 1)
    pace.decoded(0.5)  # as it was recorded
    assert pace.allowance(4, 1) < 2 * before
    for _ in range(20):
        pace.decoded(0.05)  # so many more decode
    assert pace.allowance(4, 1) > 8 * before
