"""The template writes the placeholder of pictures where a video stands."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("chat_template", "for a video", severity="warning")


def make(folders: Folders) -> None:
    path = folders.base / "chat_template.jinja"
    path.write_text(path.read_text(encoding="utf-8").replace("<|video_pad|>", "<|image_pad|>"), encoding="utf-8")
