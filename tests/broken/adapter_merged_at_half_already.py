"""Somebody merged the adapter with a weight of 0.6, and mounts it on the result; its keys hold its name."""

import re

from tests.broken.expectation import Expected
from tests.builders import Folders, rename_tensors, write_update

EXPECTED = Expected("adapter_lineage", "median share of 0.", "adapter", adapter="official")


def make(folders: Folders) -> None:
    write_update(folders, times=0.6)
    rename_tensors(folders.adapter_weights, lambda name: re.sub(r"(lora_[AB])\.", r"\1.default.", name))
