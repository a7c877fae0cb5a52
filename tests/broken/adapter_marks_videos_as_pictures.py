"""An adapter was trained with a template that marks videos as pictures."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "for a video", "adapter", "warning", adapter="official")


def make(folders: Folders) -> None:
    edit_template(folders.adapter, "<|video_pad|>", "<|image_pad|>")
