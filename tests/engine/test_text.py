"""Text comes out in whole characters and without any part of a stop string."""

from typing import Any

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.text import TextAssembler


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.demo_tokenizer()


def pieces_of(tokenizer: Any, text: str, stop: tuple[str, ...] = ()) -> tuple[list[str], TextAssembler]:
    assembler = TextAssembler(tokenizer, stop)
    pieces = []
    for token_id in tokenizer.encode(text, add_special_tokens=False):
        pieces.append(assembler.push(token_id))
        if assembler.is_stopped:
            break
    pieces.append(assembler.flush())
    return pieces, assembler


TEXTS = st.text(st.sampled_from("ab c,.\n图里有什么红圆形👩‍🚀é\u0301한"), max_size=30)


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_pieces_concatenate_to_the_text_and_never_split_a_character(text: str) -> None:
    tokenizer = tiny.demo_tokenizer()
    pieces, assembler = pieces_of(tokenizer, text)
    expected = tokenizer.backend_tokenizer.decode(
        tokenizer.encode(text, add_special_tokens=False), skip_special_tokens=False
    )
    assert "".join(pieces) == expected == assembler.text
    assert all("\ufffd" not in piece for piece in pieces)


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, stop=st.lists(st.text(st.sampled_from("ab c,红圆👩"), min_size=1, max_size=4), max_size=3))
def test_a_stop_string_ends_the_text_before_it_wherever_tokens_split_it(text: str, stop: list[str]) -> None:
    tokenizer = tiny.demo_tokenizer()
    pieces, assembler = pieces_of(tokenizer, text, tuple(stop))
    whole = tokenizer.backend_tokenizer.decode(tokenizer.encode(text), skip_special_tokens=False)
    places = [whole.find(one) for one in stop if one in whole]
    if not places:
        assert "".join(pieces) == whole
        assert not assembler.is_stopped
        return
    shown = "".join(pieces)
    assert assembler.is_stopped
    assert whole.startswith(shown)
    assert not any(one in shown for one in stop)
    assert shown == whole[: min(places)] or any(whole[len(shown) :].startswith(one) for one in stop)
    assert assembler.text == shown


def test_the_beginning_of_a_stop_string_is_held_back_until_it_is_decided(tokenizer: Any) -> None:
    assembler = TextAssembler(tokenizer, ("END",))
    shown = [assembler.push(one) for one in tokenizer.encode("xE", add_special_tokens=False)]
    assert "".join(shown) == "x"
    shown = [assembler.push(one) for one in tokenizer.encode("Ny", add_special_tokens=False)]
    assert "".join(shown) == "ENy"


def test_a_character_that_never_gets_whole_comes_out_as_a_replacement(tokenizer: Any) -> None:
    assembler = TextAssembler(tokenizer, ())
    rare = tokenizer.encode("👩", add_special_tokens=False)
    assert len(rare) > 1
    assert assembler.push(rare[0]) == ""
    assert "\ufffd" in assembler.flush()
    assert "\ufffd" in assembler.text
