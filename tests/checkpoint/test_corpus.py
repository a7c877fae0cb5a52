"""A corpus is read in every format in use, counted as the template renders it, and bounded."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from service.checkpoint import corpus as corpus_module
from service.checkpoint.corpus import read_corpus
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.demo import demo_root
from service.domain.facts import CorpusFacts
from service.errors import CheckpointUnreadable
from tests.builders import token_id

BASE = demo_root() / "base"
TOKENS = demo_root() / "adapters" / "tokens"
END, START = token_id(BASE, "<|im_end|>"), token_id(BASE, "<|im_start|>")
PICTURE = token_id(BASE, "<|image_pad|>")
TURN = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "你好 </image>"}]
SAME = {
    "messages": {"messages": TURN},
    "parts": {"messages": [{**one, "content": [{"type": "text", "text": one["content"]}]} for one in TURN]},
    "sharegpt": {"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "你好 </image>"}]},
    "prompt and answer": {"prompt": "Hello", "answer": "你好 </image>"},
    "prompt and response": {"prompt": "Hello", "response": "你好 </image>"},
    "instruction and output": {"instruction": "Hello", "input": "", "output": "你好 </image>"},
    "prompt as messages": {"prompt": TURN[:1], "completion": TURN[1:]},
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def to_file(*lines: object, name: str = "prompts.jsonl") -> Path:
        path = tmp_path / name
        text = "\n".join(one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in lines)
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def count(path: Path) -> CorpusFacts:
    return read_corpus(path, BASE, (), END)


@pytest.mark.parametrize("form", SAME)
def test_every_format_is_counted_alike(form: str, write: Callable[..., Path]) -> None:
    facts = count(write(SAME[form]))
    assert (facts.num_conversations, facts.num_skipped) == (1, 0)
    assert facts.tokens == count(write(SAME["messages"])).tokens
    assert facts.tokens[END].written == 1
    assert facts.tokens[token_id(BASE, "</image>")].written == 1
    assert (facts.tokens[START].read, facts.tokens[START].written) == (2, 0)


def test_pictures_count_as_the_placeholder(write: Callable[..., Path]) -> None:
    parts = [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "图里有什么？"}]
    facts = count(write({"messages": [{"role": "user", "content": parts}]}))
    assert facts.tokens[PICTURE].conversations == 1


def test_plain_text_is_counted_as_it_is(write: Callable[..., Path]) -> None:
    facts = count(write({"text": "a <|im_end|> b"}))
    assert (facts.tokens[END].read, facts.tokens[END].written) == (1, 0)
    assert START not in facts.tokens


def test_an_array_is_read_as_lines_are(write: Callable[..., Path]) -> None:
    assert count(write([SAME["messages"], SAME["sharegpt"]], name="prompts.json")).num_conversations == 2


def test_lines_that_cannot_be_used_are_counted_and_shown_with_their_numbers(write: Callable[..., Path]) -> None:
    bad = ["{", "[1, 2]", "3", "null", '{"other": 1}', '{"messages": [{"role": "king", "content": ""}]}', "\ud800"[:0]]
    bad += ['{"messages": [3]}', '{"messages": [{"role": "user", "content": {}}]}', "[" * 100_000]
    facts = count(write(SAME["messages"], *bad, "", SAME["messages"]))
    assert facts.num_conversations == 2
    assert facts.num_skipped == len(bad) - 1  # an empty line is none
    assert facts.skipped[0] == (2, "is not JSON: Expecting property name enclosed in double quotes at column 2")
    assert facts.skipped[1] == (3, "holds a list where an object is expected")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\n", b"[1", b"[]", b'{"text": ""}'])
def test_a_corpus_without_one_usable_line_is_an_error_that_names_it(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(CheckpointUnreadable, match=r"bad\.jsonl") as caught:
        count(path)
    assert str(tmp_path) not in caught.value.detail


@pytest.mark.parametrize("place", ["nowhere.jsonl", "."])
def test_a_corpus_that_is_no_file_is_an_error(place: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnreadable, match="is not a file"):
        count(tmp_path / place)


def test_a_long_line_is_skipped_and_a_long_corpus_is_cut(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_module, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(corpus_module, "MAX_CONVERSATIONS", 3)
    facts = count(write({"text": "x" * 5000}, *[SAME["messages"]] * 5))
    assert (facts.num_conversations, facts.num_skipped, facts.is_cut) == (3, 1, True)
    assert facts.skipped == ((1, "is longer than 1,000 bytes"),)


def test_an_adapter_s_corpus_is_counted_with_its_own_tokenizer(write: Callable[..., Path]) -> None:
    path = write(
        {"messages": [{"role": "user", "content": "<fig>?"}, {"role": "assistant", "content": "<fig>1</fig>"}]}
    )
    facts = read_checkpoint(
        locate(str(BASE)),
        {name: locate(str(demo_root() / "adapters" / name)) for name in ("tokens", "json")},
        corpus=path,
    )
    figure = token_id(TOKENS, "<fig>")
    own = facts.adapters["tokens"].corpus
    assert own is not None
    assert (own.tokens[figure].read, own.tokens[figure].written) == (1, 1)
    assert facts.base.corpus is not None
    assert figure not in facts.base.corpus.tokens
    assert facts.adapters["json"].corpus == facts.base.corpus
