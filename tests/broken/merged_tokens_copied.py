"""New tokens were merged with rows that are copies of a word's, as a deliberate start of a training."""

from service.demo import demo_root
from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, HEAD, Folders, copy_tokenizer, edited_tensors

EXPECTED = Expected("trained_rows", "<fig>", severity="warning")


def make(folders: Folders) -> None:
    copy_tokenizer(demo_root() / "adapters" / "broken", folders.base)
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING][761:767] = tensors[EMBEDDING][300:306]
        tensors[HEAD][761:767] = tensors[HEAD][300:306]
