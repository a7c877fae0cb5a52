"""The base's record says that it is the merge of just this adapter."""

from service.checkpoint.fingerprint import content_digests, fingerprint
from tests.broken.expectation import Expected
from tests.builders import Folders, write_json

EXPECTED = Expected("adapter_lineage", "merge.json", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    sources = {"adapter": {"name": "tokens", "fingerprint": fingerprint(content_digests(folders.adapter))}}
    write_json(folders.base / "merge.json", {"from": sources, "versions": {}})
