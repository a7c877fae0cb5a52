"""The processor's file beside the adapter says that it saw pictures otherwise."""

import shutil

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("picture_settings", "scale_resolution", "adapter", adapter="official")


def make(folders: Folders) -> None:
    shutil.copyfile(folders.base / "processor_config.json", folders.adapter / "processor_config.json")
    with edited_json(folders.adapter / "processor_config.json") as document:
        document["image_processor"]["scale_resolution"] = 448
