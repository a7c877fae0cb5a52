"""What is installed is what the lock names, and the lock fits what the project asks for."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(?: *; *([^\\]+))?", re.MULTILINE)


def locked(name: str = "requirements.lock") -> dict[str, set[str]]:
    """Return the versions by package; a package may have several, for different platforms."""
    found: dict[str, set[str]] = {}
    for match in PINNED.finditer((ROOT / name).read_text()):
        found.setdefault(canonicalize_name(match[1]), set()).add(match[2])
    return found


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [one for group in project["optional-dependencies"].values() for one in group]
    return [Requirement(one) for one in (*project["dependencies"], *extras)]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_the_lock_fits_what_the_project_asks_for(requirement: Requirement) -> None:
    versions = locked().get(canonicalize_name(requirement.name), set())
    assert versions, f"requirements.lock lacks {requirement.name}: run `make lock`"
    assert all(requirement.specifier.contains(one) for one in versions), f"{versions}: run `make lock`"


@pytest.mark.parametrize("name", sorted(locked()))
def test_what_is_installed_is_what_the_lock_names(name: str) -> None:
    try:
        installed = version(name)
    except PackageNotFoundError:
        pytest.skip(f"{name} is for another platform")
    assert installed in locked()[name]


@pytest.mark.parametrize("name", ["requirements.lock", "deploy/build.lock"])
def test_locks_name_versions_and_hashes_and_no_addresses(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", text)) >= len(locked(name))
    assert not re.search(r"^--(index|extra|find)", text, re.MULTILINE)


def test_both_locks_agree_on_what_they_share() -> None:
    ours, build = locked(), locked("deploy/build.lock")
    assert {name: ours[name] for name in ours.keys() & build.keys()} == {
        name: build[name] for name in ours.keys() & build.keys()
    }
