"""Tokenizers and templates that adapters of 4.6 bring and that another version reads otherwise, or wrongly."""

import json
from pathlib import Path

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import TEMPLATE, TOKENIZER, TOKENIZER_CONFIG, tokenizer_part
from benchmarks.unseen.third_4_6_editing import adapted, all_of, on_json, replacing, setting

THINKING = "{%- if enable_thinking is defined and enable_thinking is true -%}"


def lose_generation_prompt(folder: Path) -> None:
    """End the template after the messages."""
    text = (folder / TEMPLATE).read_text(encoding="utf-8")
    (folder / TEMPLATE).write_text(text[: text.index("{%- if add_generation_prompt -%}")], encoding="utf-8")


def end_every_text(folder: Path) -> None:
    """Let the tokenizer put the end of a turn after every text."""
    part = {"Sequence": {"id": "A", "type_id": 0}}
    end = {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}}
    tokenizer_part(
        "post_processor",
        {
            "type": "TemplateProcessing",
            "single": [part, end],
            "pair": [part, {"Sequence": {"id": "B", "type_id": 1}}, end],
            "special_tokens": {"<|im_end|>": {"id": "<|im_end|>", "ids": [750], "tokens": ["<|im_end|>"]}},
        },
    )(folder)


def write_merges_as_lines(folder: Path) -> None:
    """Write merges as tokenizers before 0.20 did."""
    path = folder / TOKENIZER
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


BROKEN = (
    Case(
        "template_without_generation_prompt",
        adapted(lose_generation_prompt, "official"),
        "The trainer saved its own ChatML template, which has no block for `add_generation_prompt`; the model has to "
        "open its turn itself and does not answer as it learned to. (unslothai/unsloth#4178)",
        ("add_generation_prompt", "generation prompt", "assistant", "chat_template"),
    ),
    Case(
        "template_opens_thinking",
        adapted(
            replacing(TEMPLATE, (THINKING, "{%- if enable_thinking is not defined or enable_thinking -%}")),
            "tokens",
        ),
        "The template of a reasoning release came with the adapter and opens `<think>` unless told otherwise, though "
        "it was trained with closed thinking; answers come wrong or inside the thought.",
        ("<think>", "enable_thinking", "chat_template", "thinking"),
    ),
    Case(
        "every_text_ends_a_turn",
        adapted(end_every_text, "official"),
        "`add_eos_token` of the training ended up in the saved post-processor; each prompt then ends with the "
        "end of a turn, after which the model says nothing useful.",
        ("post_processor", "post-processor", "<|im_end|>", "end of"),
    ),
    Case(
        "special_tokens_split",
        adapted(setting(TOKENIZER_CONFIG, "split_special_tokens", True), "official"),
        "`split_special_tokens` of the training was saved with the tokenizer, so that control tokens of the template "
        "and placeholders of pictures are spelled in letters. Pictures cannot be placed.",
        ("split_special_tokens", "special token", "<|im_start|>", "<|image_pad|>"),
    ),
)

HARMLESS = (
    Case(
        "special_tokens_as_a_list",
        adapted(
            setting(TOKENIZER_CONFIG, "extra_special_tokens", ["<|im_start|>", "<|im_end|>", "<|image_pad|>"]),
            "official",
        ),
        "transformers 5 writes `extra_special_tokens` as a list, which transformers 4 cannot read; here the base's "
        "names stand in for it. (ml-explore/mlx-lm#661, modelscope/ms-swift#8186)",
    ),
    Case(
        "fast_tokenizer_class",
        adapted(setting(TOKENIZER_CONFIG, "tokenizer_class", "PreTrainedTokenizerFast"), "tokens"),
        "The class was rewritten to one that transformers 4 knows too; both read tokenizer.json as it stands. "
        "(gradients-ai/G.O.D#1276)",
    ),
    Case(
        "merges_as_lines",
        adapted(write_merges_as_lines, "official"),
        "Saved by tokenizers before 0.20, which wrote a merge as one text and not as a pair; both are read alike. "
        "(huggingface/swift-transformers#131, ggml-org/llama.cpp#9692)",
    ),
    Case(
        "truncation_left_in_tokenizer",
        adapted(
            tokenizer_part(
                "truncation", {"direction": "Right", "max_length": 24, "strategy": "LongestFirst", "stride": 0}
            ),
            "official",
        ),
        "The trainer's last truncation was saved in tokenizer.json; transformers sets it anew at every call.",
    ),
    Case(
        "both_lists_of_special_tokens",
        adapted(
            on_json(
                TOKENIZER_CONFIG, lambda content: content.update(additional_special_tokens=["<|im_start|>", "<image>"])
            ),
            "tokens",
        ),
        "The config has the old list beside the new table, and transformers 5 drops the old one silently; the tokens "
        "are special in tokenizer.json anyway. (huggingface/transformers#47838)",
    ),
    Case(
        "padded_with_another_token",
        adapted(
            all_of(
                setting(TOKENIZER_CONFIG, "pad_token", "<|video_pad|>"),
                setting(TOKENIZER_CONFIG, "padding_side", "right"),
            ),
            "official",
        ),
        "A trainer pads with another token than the base, so that the end is learned, and on the right; nothing is "
        "padded in one conversation.",
    ),
)
