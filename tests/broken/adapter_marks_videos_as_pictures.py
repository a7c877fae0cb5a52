"""An adapter was trained with a template that marks videos as pictures."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("chat_template", "for a video", "adapter", "warning", adapter="official")


def make(folders: Folders) -> None:
    path = folders.adapter / "chat_template.jinja"
    path.write_text(path.read_text(encoding="utf-8").replace("<|video_pad|>", "<|image_pad|>"), encoding="utf-8")
