"""An adapter folder with nothing but a template of another family."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("stop_set", "</image>", "adapter")


def make(folders: Folders) -> None:
    template = (folders.base / "chat_template.jinja").read_text()
    (folders.adapter / "chat_template.jinja").write_text(template.replace("<|im_end|>", "</image>"))
