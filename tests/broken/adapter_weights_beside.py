"""Embeddings and resampler lie beside the adapter in a pickle, as the official script of 2024 wrote them."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("adapter_lineage", "vpm_resampler_embedtokens.pt", "adapter")


def make(folders: Folders) -> None:
    (folders.adapter / "vpm_resampler_embedtokens.pt").write_bytes(b"\x80\x04")
