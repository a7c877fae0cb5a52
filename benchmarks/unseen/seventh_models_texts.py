"""Broken models of 4.6: templates and tokenizers."""

from pathlib import Path
from typing import Any

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import TEMPLATE, TOKENIZER, tokenizer_part
from benchmarks.unseen.third_4_6_editing import alone, on_json, read_json, replacing, setting, write_json


def _ends_appended(folder: Path) -> None:
    """Write the post-processor of a tokenizer that adds the end to whatever it encodes."""
    end = {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}}
    text: dict[str, Any] = {"Sequence": {"id": "A", "type_id": 0}}
    known = {"<|im_end|>": {"id": "<|im_end|>", "ids": [750], "tokens": ["<|im_end|>"]}}
    pair = [text, {"Sequence": {"id": "B", "type_id": 1}}]
    processor = {"type": "TemplateProcessing", "single": [text, end], "pair": pair, "special_tokens": known}
    tokenizer_part("post_processor", processor)(folder)


def _sorted_vocabulary(folder: Path) -> None:
    """Number the tokens anew, in alphabetical order, as building a union does; special tokens keep their ids."""
    content = read_json(folder / TOKENIZER)
    content["model"]["vocab"] = {token: n for n, token in enumerate(sorted(content["model"]["vocab"]))}
    write_json(folder / TOKENIZER, content)


def _without_chinese(content: dict[str, Any]) -> None:
    """Keep merges that lead to ASCII only, blanks included, as one who trims languages does."""
    merges = content["model"]["merges"]
    content["model"]["merges"] = [pair for pair in merges if "".join(pair).replace("Ġ", " ").isascii()]


CASES: tuple[Case, ...] = (
    Case(
        "content_printed_as_a_list",
        alone(replacing(TEMPLATE, ("render_content(message.content)", "message.content"))),
        "A text model's template prints the content as it is: of a turn with a picture that is a list in Python's "
        "spelling, and the picture has no place (abetlen/llama-cpp-python#2324).",
        ("chat_template", "image_pad", "template"),
    ),
    Case(
        "closing_every_prompt",
        alone(_ends_appended),
        "The tokenizer was saved as for training, adding the end to whatever it encodes: every prompt ends in "
        "<|im_end|> and the answer begins after its own end (zjysteven/lmms-finetune#47).",
        ("post_processor", "<|im_end|>", "tokenizer.json"),
    ),
    Case(
        "vocabulary_numbered_anew",
        alone(_sorted_vocabulary, with_base=True),
        "A union of tokenizers was numbered in another order than the matrices' rows: each word reads as another, "
        "and answers are salad (arcee-ai/mergekit#47).",
        ("tokenizer.json", "vocab", "token ids"),
    ),
    Case(
        "random_merges_left_on",
        alone(setting(TOKENIZER, "model.dropout", 0.1)),
        "Trained with BPE dropout as augmentation, and saved with it: each request is cut into other pieces by "
        "chance (huggingface/tokenizers#644).",
        ("dropout", "tokenizer.json"),
    ),
    Case(
        "decoder_lost_in_conversion",
        alone(tokenizer_part("decoder", None)),
        "Rebuilt from vocab and merges without the byte-level decoder: what is decoded shows bytes for every "
        "Chinese character and a sign for every space.",
        ("decoder", "ByteLevel", "tokenizer.json"),
    ),
    Case(
        "wide_signs_made_narrow",
        alone(tokenizer_part("normalizer", {"type": "NFKC"}), with_base=True),
        "NFKC in place of NFC, as a customer-service team's own cleaning had it: Chinese question marks become ASCII "
        "ones, which Chinese questions never had in training.",
        ("normalizer", "NFKC"),
    ),
    Case(
        "merges_of_english_only",
        alone(on_json(TOKENIZER, _without_chinese), with_base=True),
        "Trimmed to English: the merges of Chinese characters are gone and their tokens stay, so that Chinese is read "
        "byte by byte.",
        ("merges", "tokenizer.json"),
    ),
)
