"""A merged model's folder was named in place of the adapter's."""

import shutil

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("adapter_applied", "whole model (minicpmv4_6); the folder holds no adapter", "adapter")


def make(folders: Folders) -> None:
    shutil.rmtree(folders.adapter)
    shutil.copytree(folders.base, folders.adapter)
