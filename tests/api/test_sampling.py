"""What the sampling fields do to an answer."""

import math
from typing import Any

import httpx
import pytest

from tests.asking import HELLO, SCENE, about, ask

WARM: dict[str, Any] = {**HELLO, "temperature": 3.0, "max_new_tokens": 24}


def texts(client: httpx.Client, **fields: Any) -> list[str]:
    return [ask(client, {**WARM, **fields, "seed": seed})["text"] for seed in range(4)]


def test_temperature_0_gives_the_same_answer_each_time(client: httpx.Client) -> None:
    assert len({ask(client, about(SCENE, temperature=0.0))["text"] for _ in range(3)}) == 1
    assert ask(client, about(SCENE, seed=1))["text"] == ask(client, about(SCENE, seed=2))["text"]


def test_a_seed_gives_the_same_answer_again_and_another_seed_another(client: httpx.Client) -> None:
    first, again = texts(client), texts(client)
    assert first == again
    assert len(set(first)) == len(first)


def test_without_a_seed_answers_differ(client: httpx.Client) -> None:
    assert len({ask(client, WARM)["text"] for _ in range(4)}) > 1


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 0.000001}, {"temperature": 0.001}, {"min_p": 1.0}])
def test_narrow_sampling_comes_down_to_the_likeliest_token(client: httpx.Client, narrow: dict[str, Any]) -> None:
    likeliest = ask(client, {**WARM, "temperature": 0.0})["text"]
    assert set(texts(client, **narrow)) == {likeliest}


def test_top_k_top_p_and_min_p_leave_out_unlikely_tokens(client: httpx.Client) -> None:
    wide = ask(client, {**WARM, "seed": 3, "logprobs": True})["logprobs"]
    for fields in ({"top_k": 2}, {"top_p": 0.5}, {"min_p": 0.5}):
        narrow = ask(client, {**WARM, "seed": 3, "logprobs": True, **fields})["logprobs"]
        assert min(one["logprob"] for one in narrow) > min(one["logprob"] for one in wide)


def test_a_repetition_penalty_changes_what_follows(client: httpx.Client) -> None:
    plain = ask(client, about(SCENE))["text"]
    assert ask(client, about(SCENE, repetition_penalty=1.0))["text"] == plain
    assert ask(client, about(SCENE, repetition_penalty=10.0, max_new_tokens=40))["text"] != plain


def test_logprobs_belong_to_the_tokens_of_the_text(client: httpx.Client) -> None:
    got = ask(client, about(SCENE, logprobs=True))
    assert "".join(one["token"] for one in got["logprobs"]) == got["text"]
    assert all(one["logprob"] <= 0 and math.isfinite(one["logprob"]) for one in got["logprobs"])
    assert len(got["logprobs"]) == got["usage"]["generated_tokens"] - 1  # the one that ends the turn has no text
    likelihood = math.exp(sum(one["logprob"] for one in got["logprobs"]))
    assert 0.2 < likelihood <= 1  # the demo is sure of this picture


def test_logprobs_do_not_depend_on_how_the_token_was_chosen(client: httpx.Client) -> None:
    greedy = ask(client, about(SCENE, logprobs=True))["logprobs"]
    drawn = ask(client, about(SCENE, logprobs=True, temperature=2.0, top_k=1))["logprobs"]
    assert [one["id"] for one in drawn] == [one["id"] for one in greedy]
    assert [one["logprob"] for one in drawn] == pytest.approx([one["logprob"] for one in greedy], abs=1e-4)


def test_max_new_tokens_ends_an_answer_and_says_so(client: httpx.Client) -> None:
    whole = ask(client, about(SCENE))
    cut = ask(client, about(SCENE, max_new_tokens=3))
    assert cut["finish_reason"] == "length"
    assert cut["usage"]["generated_tokens"] == 3
    assert whole["text"].startswith(cut["text"])
    exact = ask(client, about(SCENE, max_new_tokens=whole["usage"]["generated_tokens"]))
    assert (exact["text"], exact["finish_reason"]) == (whole["text"], "stop")


def test_min_new_tokens_keeps_an_answer_from_ending_before(client: httpx.Client) -> None:
    whole = ask(client, about(SCENE))
    longer = whole["usage"]["generated_tokens"] + 5
    got = ask(client, about(SCENE, min_new_tokens=longer, max_new_tokens=longer + 40))
    assert got["usage"]["generated_tokens"] > longer
    assert got["text"].startswith(whole["text"])
    assert ask(client, about(SCENE, min_new_tokens=longer, max_new_tokens=longer))["finish_reason"] == "length"
