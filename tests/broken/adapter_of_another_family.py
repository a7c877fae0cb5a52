"""An adapter of MiniCPM-V 2.6 to 4.5, with their modules, tokenizer and template, on a 4.6."""

import shutil

from service.demo import demo_root
from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("adapter_keys", "MiniCPM-V 2.6 to 4.5 (modules llm., vpm., resampler.)", "adapter")


def make(folders: Folders) -> None:
    shutil.rmtree(folders.adapter)
    shutil.copytree(demo_root() / "minicpmv4_5" / "adapters" / "official", folders.adapter)
