"""The template is the bare text of the messages, as LLaMA-Factory calls `empty`."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("chat_template", "with no token")


def make(folders: Folders) -> None:
    text = "{%- for message in messages -%}{{- message.content -}}{%- endfor -%}"
    (folders.base / "chat_template.jinja").write_text(text, encoding="utf-8")
