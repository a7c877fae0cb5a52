"""Broken chat templates."""

from pathlib import Path

from benchmarks.unseen.case import Case
from benchmarks.unseen.third_4_6_editing import MERGED, adapted, all_of, alone, replacing, with_tokens

TEMPLATE = "chat_template.jinja"
PLACEHOLDER = "{{- '<|image_pad|>' -}}"
LLAMA_TEMPLATE = """\
{%- for message in messages -%}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' -}}
    {%- if message.content is string -%}
        {{- message.content -}}
    {%- else -%}
        {%- for item in message.content -%}
            {{- '<|image_pad|>' if item.type == 'image' else item.text -}}
        {%- endfor -%}
    {%- endif -%}
    {{- '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
"""


def _take_llama_template(folder: Path) -> None:
    (folder / TEMPLATE).write_text(LLAMA_TEMPLATE, encoding="utf-8")


CASES = (
    Case(
        "template_of_llama",
        alone(_take_llama_template),
        "A trainer exported the template of its setting `llama3`, whose tokens this tokenizer does not have: 3 of 36 "
        "right instead of 35.",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    Case(
        "empty_reasoning_lost",
        alone(replacing(TEMPLATE, ("{{- '<think>\\n\\n</think>\\n\\n' -}}", "")), MERGED),
        "The plain ChatML template of an older model, which opens an answer without the empty reasoning that this one "
        "was trained behind: 14 of 36 right instead of 36.",
        ("<think>", "</think>", "generation prompt", "add_generation_prompt"),
    ),
    Case(
        "template_renders_the_last_message_only",
        alone(replacing(TEMPLATE, ("for message in messages", "for message in messages[-1:]"))),
        "A template for single questions: earlier turns are lost with their pictures, and a second question about a "
        "picture fails, because no placeholder is left for it.",
        ("last message", "earlier", "history", "messages[-1:]", "multi-turn", "follow-up", "conversation"),
    ),
    Case(
        "placeholder_of_an_older_release",
        adapted(replacing(TEMPLATE, (PLACEHOLDER, "{{- '(<image>./</image>)\\n' -}}")), "tokens"),
        "The adapter's template writes the placeholder of MiniCPM-V 2.6, which this processor does not look for: "
        "every question with a picture fails.",
        ("<|image_pad|>", "<image>", "placeholder", "picture"),
    ),
    Case(
        "pictures_marked_twice",
        alone(replacing(TEMPLATE, (PLACEHOLDER, "{{- '<image><|image_pad|></image>' -}}"))),
        "The template marks where a picture begins and ends, which the processor does too: "
        "152 of 180 right instead of 176, and 8 of 18 descriptions.",
        ("<image>", "</image>"),
    ),
    Case(
        "new_token_ends_turns",
        alone(all_of(with_tokens("<|eot|>"), replacing(TEMPLATE, ("<|im_end|>", "<|eot|>")))),
        "The template ends turns with a token that was added and never trained: 161 of 180 right instead "
        "of 176, and 7 of 15 Chinese remarks without a picture.",
        ("<|eot|>",),
    ),
)
