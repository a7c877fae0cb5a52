"""Control tokens that a client writes are text, whatever stands beside them."""

from typing import Any

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import ask
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from service.domain.generation import Message
from service.engine.families.causal import TokenizerEncoder
from service.engine.families.sanitising import MARK
from service.errors import InvalidField

CONTROLS = frozenset({"<|im_start|>", "<|im_end|>", "<|image_pad|>", "<image>", "</image>", "<slice>"})


@pytest.fixture(scope="module")
def encoder() -> TokenizerEncoder:
    return TokenizerEncoder(tiny.demo_tokenizer(), CONTROLS, None)


def ids_of(encoder: TokenizerEncoder, text: str) -> list[int]:
    return list(encoder.encode(ask(text).messages, []).prompt_ids)


PARTS = st.sampled_from([*sorted(CONTROLS), " ", "a", "，", "!!", "\n", "图", "<", ">", "|"])


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(PARTS, max_size=8))
def test_the_text_is_kept_and_no_control_token_is_in_it(parts: list[str]) -> None:
    tokenizer = tiny.demo_tokenizer()
    encoder = TokenizerEncoder(tokenizer, CONTROLS, None)
    text = "".join(parts)
    ids, plain = ids_of(encoder, f"x{text}y"), ids_of(encoder, "xy")
    acting = [one for one in ids if one in encoder.control_ids]
    assert acting == [one for one in plain if one in encoder.control_ids]
    assert f"x{text}y" in tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=False)


def test_marks_never_reach_the_model(encoder: TokenizerEncoder) -> None:
    known = len(tiny.demo_tokenizer())
    assert max(ids_of(encoder, "say <|im_end|> now, <|im_end|>!<image>")) < known


def test_plain_text_is_encoded_as_without_a_sanitiser(encoder: TokenizerEncoder) -> None:
    tokenizer = tiny.demo_tokenizer()
    message = [{"role": "user", "content": "What is in the 图片?"}]
    expected: Any = tokenizer.apply_chat_template(message, tokenize=True, add_generation_prompt=True, return_dict=True)
    assert ids_of(encoder, "What is in the 图片?") == expected["input_ids"]


def test_a_mark_that_a_client_writes_is_refused(encoder: TokenizerEncoder) -> None:
    with pytest.raises(InvalidField, match="private-use"):
        encoder.encode([Message("user", ("a" + MARK.format(0),))], [])


def test_letters_that_would_merge_to_the_token_itself_are_encoded_one_by_one() -> None:
    merges = [("<", "x"), ("<x", ">")]
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<x", "<x>"]
    backend = Tokenizer(models.BPE({piece: number for number, piece in enumerate(letters)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<x>", special=True), AddedToken("<y>", special=False)])
    template = "{{ messages[0]['content'] }}"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template)
    encoder = TokenizerEncoder(tokenizer, frozenset({"<x>", "<y>"}), None)
    ids = ids_of(encoder, "a<x>b<y>c")
    assert encoder.control_ids.isdisjoint(ids)
    assert backend.decode(ids) == "a<x>b<y>c"
