"""Hub ids are found by their pinned commit in the hub library's own cache, without the network."""

import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest

from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.demo import demo_root
from service.errors import CheckpointUnreadable

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub cache that holds the demo's base at one commit, and no network."""
    snapshot = tmp_path / "models--openbmb--demo" / "snapshots" / COMMIT
    shutil.copytree(demo_root() / "base", snapshot)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("reference", [f"openbmb/demo@{COMMIT}", "openbmb/demo"])
def test_a_pinned_hub_id_is_served_from_the_cache_under_its_name(reference: str) -> None:
    location = locate(reference, None if "@" in reference else COMMIT)
    assert location.name == "openbmb/demo@0123456789ab"
    assert read_checkpoint(location, {}).base.problems == ()


@pytest.mark.parametrize("revision", [None, "main", "v1.0", "0123456"])
def test_a_revision_that_can_move_is_refused(revision: str | None) -> None:
    with pytest.raises(CheckpointUnreadable, match="full 40-digit commit"):
        locate("openbmb/demo", revision)


def test_a_commit_that_is_not_there_says_what_to_check() -> None:
    with pytest.raises(CheckpointUnreadable, match="check the id, the commit"):
        locate(f"openbmb/demo@{'f' * 40}")
