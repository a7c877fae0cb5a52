"""The sampler chooses as transformers' own processors do, and every row as if it were alone."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import greedy
from transformers.generation import logits_process as theirs

from service.domain.generation import Sampling
from service.engine.sampling import Chosen, Sampler, narrowed
from service.engine.sampling_plan import Row, plan_of

CPU = torch.device("cpu")
STOPS = (2, 5)
PLAIN = greedy(1)
WARM = greedy(1, temperature=1.0, seed=1)


def logits_of(num_rows: int, vocabulary: int, seed: int, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(num_rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * scale


def sampler_of(*rules: Sampling, vocabulary: int, prompt: Sequence[int] = (), stops: Sequence[int] = STOPS) -> Sampler:
    sampler = Sampler(len(rules), vocabulary, CPU)
    for row, one in enumerate(rules):
        sampler.set(row, one, prompt, stops)
    return sampler


def penalised(one: Sampling, logits: torch.Tensor, prompt: Sequence[int], answer: Sequence[int]) -> torch.Tensor:
    """Return a row's scores `(1, V)` after penalties and bans, by transformers and by OpenAI's formula."""
    ids, scores = torch.tensor([[*prompt, *answer]]), logits[None].float()
    scores = theirs.RepetitionPenaltyLogitsProcessor(float(one.repetition_penalty))(ids, scores)
    for token_id, count in Counter(answer).items():
        scores[0, token_id] -= torch.tensor(one.frequency_penalty) * count
        scores[0, token_id] -= torch.tensor(one.presence_penalty)
    if one.min_new_tokens:
        ban = theirs.MinNewTokensLengthLogitsProcessor(len(prompt), one.min_new_tokens, list(STOPS))
        scores = ban(ids, scores)
    return scores


def warped(one: Sampling, scores: torch.Tensor) -> torch.Tensor:
    """Return a row's scores `(1, V)` after temperature and narrowing, in transformers' order."""
    ids = torch.zeros(1, 0, dtype=torch.int64)
    scores = theirs.TemperatureLogitsWarper(float(one.temperature))(ids, scores)
    if one.top_k:
        scores = theirs.TopKLogitsWarper(one.top_k)(ids, scores)
    if one.top_p < 1:
        with patch.object(torch, "sort", partial(torch.sort, stable=True)):  # or which of equals stay is chance
            scores = theirs.TopPLogitsWarper(one.top_p)(ids, scores)
    if one.min_p:
        scores = theirs.MinPLogitsWarper(one.min_p)(ids, scores)
    return scores


def uniform(seed: int, step: int) -> float:
    """Return what splitmix64 gives for a seed and a step, in Python's own integers."""
    mask, golden = 2**64 - 1, 0x9E3779B97F4A7C15

    def mix(bits: int) -> int:
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & mask
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & mask
        return bits ^ (bits >> 31)

    key = mix((mix(seed) + golden) & mask)
    return (mix((key + (step + 1) * golden) & mask) >> 11) * 2.0**-53


def expected(one: Sampling, logits: torch.Tensor, prompt: Sequence[int], answer: Sequence[int]) -> int:
    scores = penalised(one, logits, prompt, answer)
    if one.temperature == 0:
        return int(scores.argmax())
    assert one.seed is not None
    reached = warped(one, scores).softmax(-1).double().cumsum(-1)[0]
    return int(torch.searchsorted(reached, uniform(one.seed, len(answer)) * reached[-1], right=True))


def kept(rules: Sequence[Sampling], logits: torch.Tensor) -> torch.Tensor:
    drawing = plan_of([Row(one) for one in rules], 0, [0] * len(rules), logits.shape[1], CPU).drawing
    assert drawing is not None
    return narrowed(logits.float() / drawing.temperature, drawing) > 0


SHARES = st.floats(0.001, 0.999)
RULES = st.builds(
    Sampling,
    max_new_tokens=st.none(),
    temperature=st.one_of(st.just(0.0), st.floats(0.2, 3)),
    top_p=st.one_of(st.just(1.0), SHARES),
    top_k=st.one_of(st.just(0), st.integers(1, 12), st.integers(1, 2000)),
    repetition_penalty=st.one_of(st.just(1.0), st.floats(0.5, 3)),
    seed=st.integers(0, 2**63 - 1),
    stop=st.just(()),
    is_logprobs=st.booleans(),
    min_p=st.one_of(st.just(0.0), SHARES),
    presence_penalty=st.one_of(st.just(0.0), st.floats(-2, 2)),
    frequency_penalty=st.one_of(st.just(0.0), st.floats(-2, 2)),
    min_new_tokens=st.integers(0, 4),
)
DRAWN = RULES.filter(lambda one: one.temperature > 0)
VOCABULARIES = st.sampled_from([7, 100, 512, 513, 1300])
DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(rules=st.lists(DRAWN, min_size=1, max_size=6), vocabulary=VOCABULARIES, seed=st.integers(0, 999), dtype=DTYPES)
def test_the_kept_sets_are_those_of_transformers_ties_included(
    rules: list[Sampling], vocabulary: int, seed: int, dtype: torch.dtype
) -> None:
    logits = logits_of(len(rules), vocabulary, seed).to(dtype)
    got = kept(rules, logits)
    for row, one in enumerate(rules):
        wanted = warped(one, logits[row : row + 1].float()).softmax(-1)[0] > 0
        assert torch.equal(got[row], wanted), one


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rules=st.lists(RULES, min_size=1, max_size=5), vocabulary=VOCABULARIES, seed=st.integers(0, 999), dtype=DTYPES)
def test_every_row_of_a_mixed_batch_gets_what_transformers_and_its_seed_give_it(
    rules: list[Sampling], vocabulary: int, seed: int, dtype: torch.dtype
) -> None:
    prompt = [1, 1, 3, vocabulary - 1]
    sampler = sampler_of(*rules, vocabulary=vocabulary, prompt=prompt)
    answers: list[list[int]] = [[] for _ in rules]
    for step in range(5):
        logits = logits_of(len(rules), vocabulary, seed + step).to(dtype)
        for row, chosen in enumerate(sampler.choose(logits).fetch()):
            assert chosen.token_id == expected(rules[row], logits[row], prompt, answers[row])
            assert (chosen.logprob is not None) == rules[row].is_logprobs
            if chosen.logprob is not None:
                known = penalised(rules[row], logits[row], prompt, answers[row]).log_softmax(-1)
                assert chosen.logprob == pytest.approx(float(known[0, chosen.token_id]), abs=1e-5)
            assert chosen.is_finite
            answers[row].append(chosen.token_id)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(rules=st.lists(RULES, min_size=2, max_size=6), seed=st.integers(0, 999), data=st.data())
def test_a_row_alone_is_the_row_in_any_batch_wherever_it_moves(
    rules: list[Sampling], seed: int, data: st.DataObject
) -> None:
    vocabulary, prompt = 700, [4, 9]
    together = sampler_of(*rules, vocabulary=vocabulary, prompt=prompt)
    alone = [sampler_of(one, vocabulary=vocabulary, prompt=prompt) for one in rules]
    owners = list(range(len(rules)))
    for step in range(6):
        logits = logits_of(len(rules), vocabulary, seed + step)
        if len(owners) > 1 and data.draw(st.booleans()):  # one ends, and the last takes its place
            hole = data.draw(st.integers(0, len(owners) - 1))
            together.move(len(owners) - 1, hole)
            owners[hole] = owners[-1]
            owners.pop()
        got = together.choose(logits[owners]).fetch()
        assert got == [alone[owner].choose(logits[owner : owner + 1]).fetch()[0] for owner in owners]


def test_tokens_are_the_same_for_every_batch_size_and_number_of_threads() -> None:
    vocabulary = 60_000
    rules = [
        replace(WARM, seed=row, top_p=(1.0, 0.9, 0.99999)[row % 3], top_k=(0, 0, 50, 3000)[row % 4], is_logprobs=True)
        for row in range(12)
    ]
    logits = logits_of(12, vocabulary, 3)
    alone = [sampler_of(one, vocabulary=vocabulary).choose(logits[row : row + 1]) for row, one in enumerate(rules)]
    threads = torch.get_num_threads()
    for num_threads in (1, 3):
        torch.set_num_threads(num_threads)
        got = sampler_of(*rules, vocabulary=vocabulary).choose(logits).fetch()
        torch.set_num_threads(threads)
        assert [one.token_id for one in got] == [one.fetch()[0].token_id for one in alone]


def test_a_range_of_rows_is_chosen_for_without_the_others() -> None:
    rules = [replace(WARM, seed=row) for row in range(4)]
    logits = logits_of(4, 100, 0)
    whole = [sampler_of(*rules, vocabulary=100).choose(logits).fetch()]
    sampler = sampler_of(*rules, vocabulary=100)
    parts = sampler.choose(logits[2:], first_row=2).fetch()
    assert sampler.choose(logits[:2]).fetch() + parts == whole[0]


def test_seeds_repeat_and_differ_and_none_is_random() -> None:
    logits = torch.zeros(1, 1000)

    def answer(seed: int | None) -> list[int]:
        sampler = sampler_of(replace(WARM, seed=seed), vocabulary=1000)
        return [int(sampler.choose(logits).token_ids) for _ in range(8)]

    answers = [answer(seed) for seed in (0, 1, 2, 2**31, 2**62, 2**63 - 1)]
    assert answers == [answer(seed) for seed in (0, 1, 2, 2**31, 2**62, 2**63 - 1)]
    assert len({tuple(one) for one in answers}) == len(answers)
    assert len(set(answers[0])) > 4
    assert answer(None) != answer(None)


def test_a_row_that_is_set_again_forgets_the_sequence_before() -> None:
    rules = replace(WARM, repetition_penalty=3.0, frequency_penalty=2.0, presence_penalty=1.0, min_new_tokens=2)
    logits = logits_of(1, 50, 1)
    sampler = sampler_of(rules, vocabulary=50, prompt=[1, 2, 3])
    first = [int(sampler.choose(logits).token_ids) for _ in range(10)]
    sampler.set(0, rules, [7], STOPS)
    sampler.choose(logits)
    sampler.set(0, rules, [1, 2, 3], STOPS)
    assert [int(sampler.choose(logits).token_ids) for _ in range(10)] == first


def test_drawn_tokens_are_distributed_as_the_model_says() -> None:
    num_rows, num_steps = 500, 100
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5, -torch.inf, 1.5]).repeat(num_rows, 1)
    sampler = sampler_of(*(replace(WARM, temperature=1.3, seed=seed) for seed in range(num_rows)), vocabulary=7)
    drawn = torch.cat([sampler.choose(logits).token_ids for _ in range(num_steps)])
    observed = torch.bincount(drawn, minlength=7).double()
    wanted = (logits[0] / 1.3).softmax(-1).double() * drawn.numel()
    assert observed[5] == 0
    is_possible = wanted > 0
    chi_square = ((observed - wanted)[is_possible] ** 2 / wanted[is_possible]).sum()
    assert chi_square < 20.5  # 5 degrees of freedom: one in a thousand is above


def test_neighbouring_seeds_and_steps_have_nothing_in_common() -> None:
    num_rows, vocabulary = 64, 16
    sampler = sampler_of(*(replace(WARM, seed=seed) for seed in range(num_rows)), vocabulary=vocabulary)
    flat = torch.zeros(num_rows, vocabulary)
    table = torch.stack([sampler.choose(flat).token_ids for _ in range(64)])
    for first, second in ((table[:-1], table[1:]), (table[:, :-1], table[:, 1:])):
        pairs = torch.bincount((first * vocabulary + second).flatten(), minlength=vocabulary**2).double()
        wanted = pairs.sum() / vocabulary**2
        assert ((pairs - wanted) ** 2 / wanted).sum() < 331  # 255 degrees of freedom: one in a thousand is above


@pytest.mark.parametrize("number", [0.0, 2.0**-53, 0.5, 1 - 2.0**-53])
@pytest.mark.parametrize("vocabulary", [6, 512, 1030])
def test_no_number_draws_a_token_of_no_probability(
    monkeypatch: pytest.MonkeyPatch, number: float, vocabulary: int
) -> None:
    module = "service.engine.sampling.uniforms"
    monkeypatch.setattr(module, lambda keys, steps: torch.full(keys.shape, number, dtype=torch.float64))
    logits = torch.full((3, vocabulary), -torch.inf)
    logits[0, vocabulary // 2] = -4.0
    logits[1, 1:-1] = torch.linspace(0, 1, vocabulary - 2)
    logits[2, 1], logits[2, 3] = 0.0, -80.0
    ids = sampler_of(WARM, WARM, WARM, vocabulary=vocabulary).choose(logits).token_ids
    assert logits.gather(1, ids[:, None]).isfinite().all()
    assert int(ids[0]) == vocabulary // 2
    assert int(ids[1]) == {0.0: 1, 1 - 2.0**-53: vocabulary - 2}.get(number, int(ids[1]))


@pytest.mark.parametrize(
    "broken",
    [{3: math.nan}, {3: math.inf}, {0: math.nan, 1: -math.inf}, {2: math.nan}, dict.fromkeys(range(40), -math.inf)],
)
@pytest.mark.parametrize(
    "rules",
    [
        PLAIN,
        WARM,
        replace(WARM, top_p=0.5, is_logprobs=True),
        replace(WARM, top_k=5, top_p=0.5, min_p=0.1),
        replace(WARM, repetition_penalty=2.0, presence_penalty=1.0, min_new_tokens=9),
    ],
)
def test_a_row_that_is_not_finite_says_so_and_disturbs_no_other(rules: Sampling, broken: dict[int, float]) -> None:
    logits = logits_of(3, 40, 0)
    sound, ill = sampler_of(rules, rules, rules, vocabulary=40), sampler_of(rules, rules, rules, vocabulary=40)
    sick = logits.clone()
    sick[1, list(broken)] = torch.tensor(list(broken.values()))
    for _ in range(3):
        good, bad = sound.choose(logits).fetch(), ill.choose(sick).fetch()
        assert [one.is_finite for one in bad] == [True, False, True]
        assert (bad[0], bad[2]) == (good[0], good[2])
        assert 0 <= bad[1].token_id < 40


def test_impossible_tokens_are_legal_and_one_possible_token_is_enough() -> None:
    logits = torch.full((4, 30), -torch.inf)
    logits[:, 7] = -3.0
    rules = (PLAIN, WARM, replace(WARM, top_p=1e-9, min_p=1.0), replace(WARM, top_k=5, is_logprobs=True))
    got = sampler_of(*rules, vocabulary=30).choose(logits).fetch()
    assert [(one.token_id, one.is_finite) for one in got] == [(7, True)] * 4
    assert got[3].logprob == 0


@pytest.mark.parametrize(
    "narrow", [{"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1.0}, {"temperature": 1e-300}, {"temperature": 1e-5}]
)
def test_the_narrowest_rules_come_down_to_the_likeliest(narrow: dict[str, Any]) -> None:
    logits = logits_of(50, 300, 5)
    rules = [replace(WARM, seed=seed, **narrow) for seed in range(50)]
    assert torch.equal(sampler_of(*rules, vocabulary=300).choose(logits).token_ids, logits.argmax(1))


@pytest.mark.parametrize("wide", [{"top_k": 300}, {"top_k": 1_000_000}, {"top_p": 1.0, "min_p": 0.0}])
def test_rules_that_leave_everything_leave_everything(wide: dict[str, Any]) -> None:
    assert kept([replace(WARM, **wide)], logits_of(1, 300, 5)).all()


def test_of_equals_the_first_is_the_likeliest() -> None:
    logits = torch.zeros(2, 600, dtype=torch.bfloat16)
    logits[:, 77] = logits[:, 500] = 1.0
    assert sampler_of(PLAIN, PLAIN, vocabulary=600).choose(logits).token_ids.tolist() == [77, 77]


def test_the_model_cannot_end_before_min_new_tokens_and_can_after() -> None:
    logits = torch.zeros(3, 20)
    logits[:, list(STOPS)] = 30.0
    rules = (replace(PLAIN, min_new_tokens=3), replace(WARM, min_new_tokens=1), PLAIN)
    sampler = sampler_of(*rules, vocabulary=20, stops=(*STOPS, 20, 99))
    ended = [[one in STOPS for one in sampler.choose(logits).token_ids.tolist()] for _ in range(5)]
    assert ended == [[False, False, True], [False, True, True], [False, True, True], [True] * 3, [True] * 3]


def test_ids_beyond_the_vocabulary_in_a_prompt_are_ignored() -> None:
    rules = replace(PLAIN, repetition_penalty=2.0)
    sampler = sampler_of(rules, vocabulary=4, prompt=[3, 4, 100_000, -1])
    assert sampler.choose(torch.tensor([[0.0, 1.0, 2.0, 3.0]])).token_ids.tolist() == [2]


def test_penalties_take_memory_from_their_first_use_on() -> None:
    sampler = sampler_of(PLAIN, WARM, vocabulary=10)
    sampler.choose(torch.zeros(2, 10))
    assert (sampler._is_seen._tensor, sampler._counts._tensor) == (None, None)
    sampler.set(1, replace(WARM, presence_penalty=1.0), [1], ())
    assert sampler._is_seen._tensor is None
    assert sampler._counts._tensor is not None


def test_a_count_stops_where_its_numbers_end() -> None:
    sampler = sampler_of(replace(PLAIN, frequency_penalty=-0.001), vocabulary=3)
    logits = torch.tensor([[0.0, 5.0, 1.0]])
    sampler.choose(logits)
    with torch.inference_mode():
        sampler._counts.tensor[0, 1] = 32_766
    for _ in range(4):
        assert sampler.choose(logits).token_ids.tolist() == [1]
    assert int(sampler._counts.tensor[0, 1]) == 32_767


def test_the_caller_s_logits_are_not_changed() -> None:
    rules = replace(WARM, repetition_penalty=2.0, presence_penalty=1.0, min_new_tokens=3, top_k=3, top_p=0.4, min_p=0.3)
    logits = logits_of(2, 20, 0)
    before = logits.clone()
    sampler_of(rules, PLAIN, vocabulary=20, prompt=[1]).choose(logits)
    sampler_of(rules, rules, vocabulary=20, prompt=[1]).choose(logits)
    assert torch.equal(logits, before)


def test_choosing_never_waits_for_an_accelerator() -> None:
    device = torch.device("meta")  # has no values: whatever looks at one fails
    sampler = Sampler(6, 3000, device)
    everything = replace(WARM, top_p=0.5, min_p=0.1, repetition_penalty=2.0, presence_penalty=1.0, is_logprobs=True)
    rules = (PLAIN, WARM, everything, replace(everything, top_k=9), replace(WARM, top_p=0.5), replace(WARM, top_k=9))
    for row, one in enumerate(rules):
        sampler.set(row, replace(one, min_new_tokens=2), [1, 2], STOPS)
    for _ in range(3):
        assert sampler.choose(torch.empty(6, 3000, device=device, dtype=torch.bfloat16)).token_ids.shape == (6,)
    sampler.move(5, 0)
    sampler.choose(torch.empty(5, 3000, device=device))


def test_a_large_vocabulary_is_narrowed_as_transformers_do() -> None:
    logits = logits_of(3, 50_000, 0, scale=2.5).bfloat16()
    rules = [replace(WARM, top_p=0.8), replace(WARM, top_p=0.8, top_k=100, temperature=0.7), replace(WARM, top_k=20)]
    got = kept(rules, logits)
    assert [int(one.sum()) > 5 for one in got] == [True] * 3
    for row, one in enumerate(rules):
        assert torch.equal(got[row], warped(one, logits[row : row + 1].float())[0].isfinite())


def test_a_row_that_nobody_set_takes_the_likeliest() -> None:
    assert Sampler(2, 5, CPU).choose(torch.eye(5)[3:]).fetch() == [Chosen(3, None, True), Chosen(4, None, True)]
