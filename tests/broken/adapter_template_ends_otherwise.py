"""An adapter folder with nothing but a template of another family."""

import shutil

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("stop_set", "</image>", "adapter")


def make(folders: Folders) -> None:
    shutil.copyfile(folders.base / "chat_template.jinja", folders.adapter / "chat_template.jinja")
    edit_template(folders.adapter, "<|im_end|>", "</image>")
