"""The template writes the placeholder of pictures where a video stands."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "for a video", severity="warning")


def make(folders: Folders) -> None:
    edit_template(folders.base, "<|video_pad|>", "<|image_pad|>")
