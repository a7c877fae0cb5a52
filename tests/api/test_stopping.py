"""Stop strings: wherever they begin and end, they and what follows are left out."""

import httpx
import pytest

from service.demo.phrasing import Language
from tests.asking import SCENE, SCENES, about, ask, streamed


@pytest.mark.parametrize(("adapter", "language"), [(None, "en"), (None, "zh"), ("json", "zh")])
def test_every_part_of_an_answer_can_stop_it(client: httpx.Client, language: Language, adapter: str | None) -> None:
    whole = ask(client, about(SCENE, "describe", language, adapter=adapter))["text"]
    for start in range(0, len(whole) - 1, max(2, len(whole) // 8)):
        for length in (1, 2, 5):
            stop = whole[start : start + length]
            got = ask(client, about(SCENE, "describe", language, adapter=adapter, stop=[stop]))
            assert got["text"] == whole[: whole.index(stop)]
            assert got["finish_reason"] == "stop"


def test_a_stop_string_across_tokens_is_never_streamed(client: httpx.Client) -> None:
    request = about(SCENES[1], "describe", "zh")
    tokens = [one["token"] for one in ask(client, {**request, "logprobs": True})["logprobs"]]
    stop = tokens[1][-1] + tokens[2][:1]
    events = streamed(client, {**request, "stop": [stop]})
    text = "".join(one["text"] for one in events if isinstance(one, dict) and "text" in one)
    whole = "".join(tokens)
    assert text == whole[: whole.index(stop)]


def test_the_first_of_several_stop_strings_counts(client: httpx.Client) -> None:
    whole = ask(client, about(SCENE))["text"]
    got = ask(client, about(SCENE, stop=["left", "circle", "nothing"]))
    assert got["text"] == whole[: whole.index("circle")]


def test_a_stop_string_that_does_not_occur_changes_nothing(client: httpx.Client) -> None:
    whole = ask(client, about(SCENE))
    got = ask(client, about(SCENE, stop=["left!", "\n\n", "正方形"]))
    assert (got["text"], got["finish_reason"], got["usage"]) == (whole["text"], "stop", whole["usage"])
    events = streamed(client, about(SCENE, stop=[whole["text"] + "!"]))  # all of it is held back until the end
    assert [one["text"] for one in events if isinstance(one, dict) and "text" in one] == [whole["text"]]
