"""Broken between text and ids: tokenizers and the tokens that end an answer."""

from pathlib import Path
from typing import Any

from benchmarks.unseen.case import Case
from benchmarks.unseen.third_4_6_editing import (
    DEMO,
    Edit,
    adapted,
    alone,
    on_json,
    replacing,
    setting,
    taking,
    without_files,
    without_setting,
)

TOKENIZER, GENERATION = "tokenizer.json", "generation_config.json"
FIRST_MOVED = 400
"""The first id of the vocabulary that moves; words longer than a byte lie around it."""


def _on_tokenizer(change: Any) -> Edit:
    return on_json(TOKENIZER, change)


def _insert_token(content: dict[str, Any]) -> None:
    added = content["added_tokens"]
    added.insert(1, {**added[0], "content": "<|bot|>"})
    for token_id, one in enumerate(added, start=added[0]["id"]):
        one["id"] = token_id


def _lose_merges(content: dict[str, Any]) -> None:
    content["model"]["merges"] = content["model"]["merges"][:120]


def _move_words(content: dict[str, Any]) -> None:
    vocabulary = content["model"]["vocab"]
    last = max(vocabulary.values())
    moved = {last: FIRST_MOVED} | {token_id: token_id + 1 for token_id in range(FIRST_MOVED, last)}
    content["model"]["vocab"] = {word: moved.get(token_id, token_id) for word, token_id in vocabulary.items()}


def _frame_text(content: dict[str, Any]) -> None:
    token, processor = "<|endoftext|>", content["post_processor"]
    place = {"SpecialToken": {"id": token, "type_id": 0}}
    processor["single"] = [place, *processor["single"], place]
    processor["special_tokens"] = {token: {"id": token, "ids": [748], "tokens": [token]}}


def _lowercase(content: dict[str, Any]) -> None:
    content["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}


def _split_at_spaces(content: dict[str, Any]) -> None:
    content["pre_tokenizer"]["pretokenizers"][0] = {"type": "WhitespaceSplit"}


def _add_before_markup(content: dict[str, Any]) -> None:
    added = content["added_tokens"]
    own = {**added[-1], "id": 761, "content": "<|tool_call|>"}
    for one in added:
        one["id"] += one["id"] >= own["id"]
    added.insert([one["content"] for one in added].index("<fig>"), own)


def _lose_last_token(content: dict[str, Any]) -> None:
    content["added_tokens"] = [one for one in content["added_tokens"] if one["content"] != "</pos>"]


def _take_stripping(content: dict[str, Any]) -> None:
    for one in content["added_tokens"]:
        one["lstrip"] = one["rstrip"] = True


def _take_other_tokenizer(folder: Path) -> None:
    taking(TOKENIZER, DEMO / "minicpmv4_5" / "base")(folder)


CASES = (
    Case(
        "pad_token_unset",
        alone(without_setting("tokenizer_config.json", "pad_token")),
        "A trainer that pads by itself cleared the padding token, and the processor pads each prompt: every request "
        "fails.",
        ("pad_token", "padding"),
    ),
    Case(
        "own_token_among_the_special_ones",
        alone(_on_tokenizer(_insert_token)),
        "A token of one's own was put beside <|endoftext|> in tokenizer.json and the list renumbered, so that every "
        "later special token has its neighbour's id. Pictures fail: placeholders do not match their features.",
        ("<|bot|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>", "image_token_id"),
    ),
    Case(
        "merges_cut_off",
        alone(_on_tokenizer(_lose_merges)),
        "A conversion by hand kept only the first 120 merges, so that text falls into bytes that the model has never "
        "read in such rows: 6 of 36 right instead of 35.",
        ("merges",),
    ),
    Case(
        "vocabulary_moved_by_one",
        alone(_on_tokenizer(_move_words), with_base=True),
        "A word was moved within the vocabulary and the ids behind its new place were counted up. The base is known. "
        "0 of 36 right instead of 35.",
        ("vocab", TOKENIZER, "other ids", "another id", "token ids"),
    ),
    Case(
        "text_framed_by_end_of_text",
        alone(_on_tokenizer(_frame_text)),
        "The post-processor of another tokenizer, which puts a token before and behind each text, was copied: prompts "
        "end with <|endoftext|> behind the generation prompt. 0 of 36 right instead of 35.",
        ("post_processor", "post-processor", "<|endoftext|>"),
    ),
    Case(
        "lowercasing",
        alone(_on_tokenizer(_lowercase)),
        "A normalizer that lowercases came in with a retrained tokenizer: the model reads questions in a spelling it "
        "does not know. 139 of 180 right instead of 176; 1 of 14 English questions for positions.",
        ("normalizer", "lowercase"),
    ),
    Case(
        "split_at_spaces",
        alone(_on_tokenizer(_split_at_spaces)),
        "The pre-tokenizer's pattern was replaced by splitting at whitespace, which loses spaces and newlines: 2 of "
        "36 right instead of 35.",
        ("pre_tokenizer", "pre-tokenizer", "pretokenizer", "whitespace", "newline"),
    ),
    Case(
        "markup_moved_behind_another_token",
        adapted(_on_tokenizer(_add_before_markup), "tokens"),
        "After training, a token was added before the adapter's own, which moves them by one: each is decoded as its "
        "neighbour, and the last has a row that was never trained. 0 of 36 right instead of 36.",
        ("</pos>", "767", "<|tool_call|>"),
    ),
    Case(
        "last_markup_token_lost",
        adapted(_on_tokenizer(_lose_last_token), "tokens"),
        "The adapter's tokenizer was edited by hand and lacks the last of the tokens whose rows it trained: every "
        "</pos> is answered as nothing. 25 of 36 right instead of 36.",
        ("766", "</pos>"),
    ),
    Case(
        "tokenizer_left_behind",
        adapted(without_files(TOKENIZER, "tokenizer_config.json", "chat_template.jinja"), "tokens"),
        "Only adapter_model.safetensors and adapter_config.json were uploaded. The ids of the six trained rows have "
        "no token in the base's tokenizer and are answered as nothing: 0 of 36 right instead of 36.",
        ("761", "766", "trainable_token_indices"),
    ),
    Case(
        "turn_start_renamed",
        alone(replacing(TOKENIZER, ("<|im_start|>", "<|im_begin|>"))),
        "A token was renamed in the tokenizer and not in the chat template, which now spells <|im_start|> in bytes: "
        "11 of 36 right instead of 35.",
        ("<|im_start|>",),
    ),
    Case(
        "tokenizer_of_another_release",
        adapted(_take_other_tokenizer, "official"),
        "The adapter's folder has the tokenizer.json of a MiniCPM-V 4.5, out of a training folder used for both. "
        "Pictures fail: placeholders do not match their features.",
        (TOKENIZER, "vocab", "<|image_pad|>", "<|im_start|>"),
    ),
    Case(
        "added_tokens_strip_neighbours",
        alone(_on_tokenizer(_take_stripping)),
        "Every added token was written again as AddedToken(lstrip=True, rstrip=True), which eats the newlines around "
        "turns: 5 of 36 right instead of 35.",
        ("strip",),
    ),
    Case(
        "names_of_placeholders_lost",
        alone(without_setting("tokenizer_config.json", "extra_special_tokens")),
        "The tokenizer of the base was saved again by a trainer that drops the names of its placeholders: the "
        "processor cannot be built.",
        ("extra_special_tokens", "image_token"),
    ),
    Case(
        "stops_at_padding_only",
        alone(setting(GENERATION, "eos_token_id", 748)),
        "A script set the end of an answer to the padding token, which the model never writes: no answer stops, 0 of "
        "36 instead of 36.",
        ("<|im_end|>", "eos_token_id"),
    ),
)
