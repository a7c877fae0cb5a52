"""Adapters over the demo of 4.6 whose tokenizer, tokens or template do not go with their weights."""

from pathlib import Path

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import TOKENIZER, on_added_tokens
from benchmarks.unseen.sixth_adapters_editing import exchanged, with_template, with_texts_of
from benchmarks.unseen.third_4_6_editing import (
    BASE,
    MARKUP,
    MARKUP_ROWS,
    adapted,
    all_of,
    on_json,
    with_tokens,
    write_json,
)

LLAMA_TEMPLATE = """\
{{- '<|begin_of_text|>' -}}
{%- for message in messages -%}
    {{- '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\\n\\n' ~ render_content(message.content) -}}
    {{- '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
"""
TEXT_TEMPLATE = """\
{%- for message in messages -%}
    {{- '<|im_start|>' ~ message['role'] ~ '\\n' ~ message['content'] ~ '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' -}}
{%- endif -%}
"""
CLOSED_THOUGHTS = "        {{- '<think>\\n\\n</think>\\n\\n' -}}\n"


def add_markup_after_others(folder: Path) -> None:
    """Shift the ids of the markup by two tokens that the tokenizer got before it."""

    def change(content: dict[str, list[dict[str, object]]]) -> None:
        added = content["added_tokens"]
        for token in added:
            if token["content"] in MARKUP:
                token["id"] = int(str(token["id"])) + 2
        start = MARKUP_ROWS.start
        for token_id, text in enumerate(("<ref>", "</ref>"), start=start):
            added.insert(token_id - 748, {**added[-1], "id": token_id, "content": text})

    on_json(TOKENIZER, change)(folder)


def sort_markup(folder: Path) -> None:
    """Give the ids of the markup in the order of a set; the table from training lies beside it."""
    write_json(folder / "added_tokens.json", {one: MARKUP_ROWS.start + rank for rank, one in enumerate(MARKUP)})
    ids = {one: MARKUP_ROWS.start + rank for rank, one in enumerate(sorted(MARKUP))}

    def change(content: dict[str, list[dict[str, object]]]) -> None:
        for token in content["added_tokens"]:
            token["id"] = ids.get(str(token["content"]), token["id"])
        content["added_tokens"].sort(key=lambda token: int(str(token["id"])))

    on_json(TOKENIZER, change)(folder)


def from_role_loop(template: str) -> str:
    """Cut off the macro at the top of the base's template."""
    return template[: template.index("{%- for message in messages -%}")]


def strip_spaces(token: dict[str, object]) -> None:
    """Let a token swallow the white space around it."""
    token.update(lstrip=True, rstrip=True)


CASES: tuple[Case, ...] = (
    Case(
        "markup_two_ids_too_late",
        adapted(add_markup_after_others, "tokens"),
        "The tokenizer was built again from a release with two tokens more, so that the markup's ids moved on by two "
        "while the trained rows stayed; the model writes other tokens than it means.",
        ("<pos>", "</pos>", "<fig>", "<ref>", "trainable_token_indices"),
    ),
    Case(
        "markup_in_the_order_of_a_set",
        adapted(sort_markup, "tokens"),
        "Special tokens were added from a Python set, in another order at every start: tokenizer.json gives them ids "
        "that are not those of training, and answers open with closing tags (huggingface/transformers#5704).",
        ("<fig>", "</fig>", "<col>", "added_tokens.json", "</pos>"),
    ),
    Case(
        "generation_prompt_lost",
        adapted(
            with_template(lambda text: text[: text.index("{%- if add_generation_prompt")]),
            "tokens",
        ),
        "The trainer saves a template without the block for `add_generation_prompt`: prompts end before the "
        "assistant's turn and the model does not answer as one (unslothai/unsloth#4179).",
        ("add_generation_prompt", "generation prompt", "assistant"),
    ),
    Case(
        "template_of_another_family",
        adapted(with_template(lambda text: from_role_loop(text) + LLAMA_TEMPLATE), "json"),
        "Trained through a helper that sets the template of Llama 3 on any tokenizer; its tokens are not in the "
        "vocabulary, so that turns are spelled in pieces that no training saw.",
        ("<|start_header_id|>", "<|eot_id|>", "<|begin_of_text|>", "<|end_header_id|>"),
    ),
    Case(
        "template_for_texts_only",
        adapted(with_template(lambda _: TEXT_TEMPLATE), "json"),
        "The template of a text model is saved with the adapter: it prints the list of parts as Python writes it, no "
        "place is left for pictures, and every question with a picture fails.",
        ("<|image_pad|>", "picture", "image", "placeholder"),
    ),
    Case(
        "domain_words_as_new_tokens",
        adapted(
            all_of(
                with_texts_of(BASE),
                with_tokens("picture", "figure", "color", "shape", "图片", "图形", "颜色", "形状", special=False),
            ),
            "json",
        ),
        "Words of the domain were added to the tokenizer and their rows never trained: questions that have them are "
        "read through rows of noise (hiyouga/LlamaFactory#6277).",
        ("figure", "图片", "颜色", "untrained", "never trained"),
    ),
    Case(
        "template_without_closed_thoughts",
        adapted(with_template(exchanged((CLOSED_THOUGHTS, "")), source=BASE), "json"),
        "The trainer's template for models that do not think leaves out the empty thoughts which base and adapter "
        "were trained behind; answers begin with them or go astray (hiyouga/LlamaFactory#9092).",
        ("<think>", "think", "generation prompt"),
    ),
    Case(
        "tokens_swallow_white_space",
        adapted(on_added_tokens(strip_spaces), "tokens"),
        "Added tokens were saved with `lstrip` and `rstrip`, so that they swallow the line breaks of the template "
        "around them and no turn begins as in training.",
        ("lstrip", "rstrip", "<|im_start|>", "<|im_end|>", "<think>"),
    ),
)
