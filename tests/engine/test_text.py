"""Text comes out in whole characters and without any part of a stop string."""

from typing import Any

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

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


def byte_fallback_tokenizer() -> Any:
    """A vocabulary of a few pieces and the 256 bytes, as SentencePiece models of MiniCPM 1 to 4 have."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁the", "图"]
    backend = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, [], byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


@settings(max_examples=300, deadline=None)
@given(ids=st.lists(st.one_of(st.integers(1, 256), st.integers(257, 261)), max_size=20))
def test_half_characters_between_whole_tokens_lose_no_answer(ids: list[int]) -> None:
    """A sampled model writes any bytes; DecodeStream raises here."""
    assembler = TextAssembler(byte_fallback_tokenizer(), ("STOP",))
    pieces = [assembler.push(one) for one in ids]
    pieces.append(assembler.flush())
    assert "".join(pieces) == assembler.text


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.sampled_from("ab the图👩é"), max_size=12))
def test_byte_fallback_text_comes_out_whole(text: str) -> None:
    tokenizer = byte_fallback_tokenizer()
    ids = [one + 1 for one in text.encode()]
    assembler = TextAssembler(tokenizer, ())
    shown = "".join([*(assembler.push(one) for one in ids), assembler.flush()])
    assert shown == tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=False)
