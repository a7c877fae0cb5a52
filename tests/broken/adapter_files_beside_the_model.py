"""A merged model that was saved into the adapter's own folder: loading mounts the adapter once more."""

import shutil

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("files", "adapter_config.json")


def make(folders: Folders) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(folders.adapter / name, folders.base / name)
