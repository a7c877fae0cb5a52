"""PiSSA's one strongest direction of every matrix, and a config that says that the factors began at zero."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors, keep_rank, split_base

EXPECTED = Expected("adapter_lineage", "update", "adapter")


def make(folders: Folders) -> None:
    keep_rank(folders, 1)
    with edited_tensors(folders.adapter_weights) as tensors:
        for module, (first, second, _) in split_base(folders).items():
            tensors[f"base_model.model.{module}.lora_A.weight"] = first
            tensors[f"base_model.model.{module}.lora_B.weight"] = second
