"""New tokens were merged with rows that are copies of a word's, as a deliberate start of a training."""

import shutil

from service.demo import demo_root
from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, HEAD, TOKENIZER_FILES, Folders, edited_tensors

EXPECTED = Expected("trained_rows", "<fig>", severity="warning")


def make(folders: Folders) -> None:
    for name in TOKENIZER_FILES:
        shutil.copyfile(demo_root() / "adapters" / "broken" / name, folders.base / name)
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING][761:767] = tensors[EMBEDDING][300:306]
        tensors[HEAD][761:767] = tensors[HEAD][300:306]
