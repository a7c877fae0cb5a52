"""Chat templates of other text and the same meaning."""

from pathlib import Path

from benchmarks.unseen.case import Case
from benchmarks.unseen.third_4_6_editing import MERGED, alone, replacing

TEMPLATE = "chat_template.jinja"
LOOP = "{%- for message in messages -%}"
REWRITTEN = """\
{%- set image, video = '<|image_pad|>', '<|video_pad|>' -%}
{%- set ns = namespace(text='') -%}
{%- for message in messages %}
    {%- set ns.text = message.content if message.content is string else '' %}
    {%- if message.content is not string %}
        {%- for part in message.content %}
            {%- set marks = {'image': image, 'image_url': image, 'video': video} %}
            {%- set ns.text = ns.text + marks.get(part.type, part.text) %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' + ns.text + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n<think>\\n' + ('' if enable_thinking | default(false) else '\\n</think>\\n\\n') }}
{%- endif %}
"""
TOOLS = """\
{%- if tools -%}
    {{- '<|im_start|>system\\n# Tools\\n' -}}
    {%- for tool in tools -%}
        {{- tool | tojson ~ '\\n' -}}
    {%- endfor -%}
    {{- 'Call a tool as {"name": ..., "arguments": ...} within <tool_call></tool_call>.<|im_end|>\\n' -}}
{%- endif -%}
"""
DEFAULT_SYSTEM = """\
{%- if messages[0].role != 'system' -%}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}
{%- endif -%}
"""


def _rewrite(folder: Path) -> None:
    (folder / TEMPLATE).write_text(REWRITTEN, encoding="utf-8")


def _save_on_windows(folder: Path) -> None:
    path = folder / TEMPLATE
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


CASES = (
    Case("template_rewritten", alone(_rewrite), "Another author's template that renders the same: 35 of 36 right."),
    Case(
        "template_with_tools",
        alone(replacing(TEMPLATE, (LOOP, TOOLS + LOOP)), MERGED),
        "The template lists tools where a request has some, and names tags that are no tokens: 36 of 36 right.",
    ),
    Case(
        "template_with_default_system_prompt",
        alone(replacing(TEMPLATE, (LOOP, DEFAULT_SYSTEM + LOOP))),
        "A system prompt that the base has met in training stands before each conversation without one: 35 "
        "of 36 right as before.",
    ),
    Case(
        "template_saved_on_windows",
        alone(_save_on_windows),
        "Carriage returns at the ends of the template's lines, which Jinja takes as newlines: 35 of 36 right.",
    ),
)
