"""Turns what an operator names (a folder, or a hub id with a commit) into a folder on disk.

Reads no file; of a folder that holds no model it says which of the folders in it does.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from service.errors import CheckpointUnreadable

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")

SAFE_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.tiktoken")
"""What is fetched from a hub: no pickle, no code."""
CODE_FILES = ("*.py",)
CONFIGS = ("config.json", "adapter_config.json")
WEIGHTS = ("*.safetensors", "*.bin", "*.safetensors.index.json")
SHOWN = 3
"""How many folders are proposed."""


@dataclass(frozen=True, slots=True)
class Location:
    """A folder with the name that may be shown: its last component, or the hub id. Never a path."""

    folder: Path
    name: str


def locate(reference: str, revision: str | None = None, *, with_code: bool = False) -> Location:
    """Find a checkpoint's folder; fetch it first if it is a hub id.

    Args:
        reference: A folder, `owner/name`, or `owner/name@commit`.
        revision: The commit, if the reference does not carry one.
        with_code: Also fetch Python files, for a repository that a setting trusts.

    Raises:
        CheckpointUnreadable: There is no such folder, it is the one around a model's, the commit is missing or not a
            full hash, or the hub did not answer.
    """
    if folder := _folder(reference):
        if not os.access(folder, os.R_OK | os.X_OK):
            raise CheckpointUnreadable(f"the folder {folder.name!r} may not be listed: check its permissions")
        _refuse_outer(folder)
        return Location(folder, folder.resolve().name)
    repository, _, commit = reference.partition("@")
    if not HUB_ID.fullmatch(repository):
        raise CheckpointUnreadable(
            f"{Path(reference).name[:200]!r} is neither a folder nor a hub id: check the path (in a container it must "
            "be mounted), or write owner/name@commit"
        )
    commit = commit or revision or ""
    if not COMMIT.fullmatch(commit):
        why = f"has revision {commit[:200]!r}" if commit else "is no folder here, and as a hub id names no revision"
        raise CheckpointUnreadable(
            f"{repository} {why}: a hub id needs the full 40-digit commit (MINICPM_REVISION, or owner/name@commit), "
            "so that what was audited is what is served tomorrow"
        )
    return Location(_fetch(repository, commit, with_code=with_code), f"{repository}@{commit[:12]}")


def _folder(reference: str) -> Path | None:
    if not reference:
        return None  # Path("") would be the working directory
    try:
        folder = Path(reference).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError):  # too long a name, a forbidden parent, `~nobody`
        return None


def _refuse_outer(folder: Path) -> None:
    """Refuse a folder without config and weights where a folder in it has a config.

    Raises:
        CheckpointUnreadable: It is such a one; the message names those in it.
    """
    if any((folder / name).exists() for name in CONFIGS) or any(any(folder.glob(one)) for one in WEIGHTS):
        return
    inner = [path.parent.name for name in CONFIGS for path in sorted(folder.glob(f"*/{name}"))]
    if inner:
        name = folder.resolve().name
        meant = " or ".join(f"{name}/{one}" for one in list(dict.fromkeys(inner))[:SHOWN])
        raise CheckpointUnreadable(f"{name} holds neither a model nor an adapter: did you mean {meant}?")


def _fetch(repository: str, commit: str, *, with_code: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [*SAFE_FILES, *(CODE_FILES if with_code else ())]
    try:
        return Path(snapshot_download(repository, revision=commit, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise CheckpointUnreadable(
            f"{repository}@{commit[:12]} could not be fetched ({type(error).__name__}): check the id, the commit, "
            "the network and HF_TOKEN, or download the folder and name it instead"
        ) from error
