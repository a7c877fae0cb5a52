"""Broken adapters of 4.6: what they bring of tokenizer and template, or ought to."""

import json
from pathlib import Path
from typing import Any

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import TEMPLATE, TOKENIZER, TOKENIZER_CONFIG, writing
from benchmarks.unseen.third_4_6_editing import BASE, Edit, adapted, all_of, on_json, taking, without_files

ALPACA = """\
{%- for message in messages -%}
    {%- if message.content is string -%}
        {%- set text = message.content -%}
    {%- else -%}
        {%- set parts = namespace(text='') -%}
        {%- for item in message.content -%}
            {%- set parts.text = parts.text ~ ('<|image_pad|>' if item.type == 'image' else item.text) -%}
        {%- endfor -%}
        {%- set text = parts.text -%}
    {%- endif -%}
    {%- if message.role == 'user' -%}
        {{- 'Human: ' ~ text ~ '\\nAssistant: ' -}}
    {%- else -%}
        {{- text ~ '\\n' -}}
    {%- endif -%}
{%- endfor -%}
"""
TEXT_ONLY = """\
{% for message in messages %}{% if message['role'] == 'user' %}{{ '<|im_start|>user\\n' ~ message['content'] \
~ '<|im_end|>\\n<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' }}{% elif message['role'] == 'system' %}\
{{ '<|im_start|>system\\n' ~ message['content'] ~ '<|im_end|>\\n' }}{% else %}\
{{ message['content'] ~ '<|im_end|>\\n' }}{% endif %}{% endfor %}"""
NO_PROMPT = (BASE / TEMPLATE).read_text(encoding="utf-8").split("{%- if add_generation_prompt -%}")[0]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 45178\n"


def _ends_every_text(folder: Path) -> None:
    content = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
    processor = content["post_processor"]
    for kind in ("single", "pair"):
        processor[kind].append({"SpecialToken": {"id": "<|im_end|>", "type_id": 0}})
    processor["special_tokens"] = {"<|im_end|>": {"id": "<|im_end|>", "ids": [750], "tokens": ["<|im_end|>"]}}
    (folder / TOKENIZER).write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")


def _with_tokenizer_of_base(edit: Edit) -> Edit:
    """Make an edit of an adapter that first gets the base's tokenizer, as trainers save it along."""
    return all_of(taking(TOKENIZER, BASE), taking(TOKENIZER_CONFIG, BASE), taking(TEMPLATE, BASE), edit)


def _words_into_vocabulary(content: dict[str, Any]) -> None:
    """Put new words before the special tokens, which move up; the model's rows do not."""
    words = ("左上角", "右下角", "三角形")
    vocabulary = content["model"]["vocab"]
    for word in words:
        vocabulary[word] = len(vocabulary)
    for token in content["added_tokens"]:
        token["id"] += len(words)


def _to_pointer(folder: Path) -> None:
    (folder / TOKENIZER).write_text(POINTER.format("5a" * 32), encoding="utf-8")


CASES: tuple[Case, ...] = (
    Case(
        "adapter_brings_the_trainers_default_template",
        adapted(_with_tokenizer_of_base(writing(TEMPLATE, ALPACA))),
        "The export ran with `template: default`, so that the adapter's template writes Human and Assistant in place "
        "of the turns that it was trained with; answers are garbage (hiyouga/LlamaFactory#1199).",
        ("template", "<|im_start|>", "<|im_end|>", "Human"),
    ),
    Case(
        "adapter_brings_a_template_without_pictures",
        adapted(_with_tokenizer_of_base(writing(TEMPLATE, TEXT_ONLY))),
        "The trainer wrote its own template, which knows texts only: the parts of a message are printed as a Python "
        "list and no picture reaches the model (hiyouga/LlamaFactory#5489).",
        ("template", "image_pad", "picture"),
    ),
    Case(
        "adapter_brings_a_template_for_training_only",
        adapted(_with_tokenizer_of_base(writing(TEMPLATE, NO_PROMPT))),
        "The template that rendered the training texts was saved along: it never opens the assistant's turn, and the "
        "model writes the turn's head and something else.",
        ("template", "add_generation_prompt", "assistant", "generation prompt"),
    ),
    Case(
        "adapter_tokenizer_ends_every_text",
        adapted(_with_tokenizer_of_base(_ends_every_text)),
        "The tokenizer was saved as set for training, where it appends the end of a turn to every text, prompts "
        "included (ml-explore/mlx-examples#756).",
        ("<|im_end|>", "post_processor", "tokenizer.json", "eos"),
    ),
    Case(
        "adapter_tokenizer_with_words_in_the_vocabulary",
        adapted(_with_tokenizer_of_base(on_json(TOKENIZER, _words_into_vocabulary))),
        "New words were written into the vocabulary before the special tokens, which all moved by three while the "
        "model's rows stayed (ymcui/Chinese-LLaMA-Alpaca-2#360).",
        ("<|im_start|>", "<|im_end|>", "<|image_pad|>", "<think>"),
    ),
    Case(
        "tokenizer_of_the_adapter_is_an_lfs_pointer",
        adapted(_to_pointer, "tokens"),
        "Cloned with an LFS filter for weights only: tokenizer.json is three lines of a pointer, and the adapter's "
        "tokenizer does not load (microsoft/OmniParser#34).",
        ("tokenizer.json", "lfs", "pointer"),
    ),
    Case(
        "image_build_left_the_tokenizer_out",
        adapted(without_files(TOKENIZER, TOKENIZER_CONFIG, TEMPLATE), "tokens"),
        "The image was built with an ignore list that keeps adapter_* only: the adapter writes ids that the base's "
        "tokenizer has no token for, and its markup is missing (MeetKai/functionary#289).",
        ("761", "trainable_token", "tokenizer", "766"),
    ),
)
"""Cases of texts that come with an adapter over the base of 4.6."""
