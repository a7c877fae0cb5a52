"""A template that strings texts together: no role, no end, nothing but the places of pictures."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("chat_template", "marks no turn")
TEMPLATE = """\
{%- for message in messages -%}
    {%- if message.content is string -%}
        {{- message.content -}}
    {%- else -%}
        {%- for item in message.content -%}
            {%- if item.type == 'image' -%}
                {{- '<|image_pad|>' -}}
            {%- elif item.type == 'video' -%}
                {{- '<|video_pad|>' -}}
            {%- else -%}
                {{- item.text -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{- '\\n' -}}
{%- endfor -%}
"""


def make(folders: Folders) -> None:
    (folders.base / "chat_template.jinja").write_text(TEMPLATE)
