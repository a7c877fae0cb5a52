"""The base is the adapter's own merge: the update counts twice."""

import shutil

from service.demo import demo_root
from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("adapter_config", "base's own weights", "adapter")


def make(folders: Folders) -> None:
    shutil.copyfile(demo_root() / "merged/model.safetensors", folders.base_weights)
