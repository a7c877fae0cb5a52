"""What an operator may name: folders, and hub ids with a full commit."""

import os
from pathlib import Path

import pytest

from service.checkpoint.locating import locate
from service.errors import CheckpointUnreadable

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_folder_is_shown_by_its_last_name_and_never_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    location = locate(str(tmp_path / "model"))
    assert (location.folder, location.name) == (tmp_path / "model", "model")
    assert locate(f"{tmp_path}/model/../model/").name == "model"


@pytest.mark.parametrize(
    "reference", ["owner/name", "owner/name@main", "owner/name@v1.0", f"owner/name@{COMMIT[:12]}", "owner/name@"]
)
def test_a_hub_id_without_a_full_commit_is_refused(reference: str) -> None:
    with pytest.raises(CheckpointUnreadable, match="40-digit commit"):
        locate(reference)


@pytest.mark.parametrize(
    "reference",
    [
        *("", "name", "a/b/c", "../up", "/nowhere/at/all", "~nobody-of-this-name/model", "a b/c", "-owner/name"),
        *(
            "owner/name\n",
            "owner/ñame",
            "x" * 5000,
            "a\0b",
            f"{COMMIT}",
            "https://example.com/owner/name",
            "@",
            "/"[:0],
        ),
    ],
)
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused_without_its_path(reference: str) -> None:
    with pytest.raises(CheckpointUnreadable, match="neither a folder nor a hub id") as refused:
        locate(reference)
    assert "/nowhere/at" not in refused.value.detail
    assert len(refused.value.detail) < 600


@pytest.mark.parametrize(("inner", "name"), [("base", "config.json"), ("official", "adapter_config.json")])
def test_the_folder_around_a_model_or_an_adapter_is_refused_with_those_in_it(
    inner: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / "outer" / inner).mkdir(parents=True)
    (tmp_path / "outer" / "repair.json").touch()
    (tmp_path / "outer" / inner / name).touch()
    with pytest.raises(CheckpointUnreadable, match=rf"did you mean outer/{inner}\?$") as refused:
        locate(str(tmp_path / "outer"))
    assert str(tmp_path) not in refused.value.detail
    assert locate(str(tmp_path / "outer" / inner)).name == inner


@pytest.mark.parametrize("own", ["config.json", "adapter_config.json", "model.safetensors", "pytorch_model.bin"])
def test_a_model_with_others_in_it_is_meant_itself_even_if_files_of_it_are_lost(own: str, tmp_path: Path) -> None:
    (tmp_path / "outer" / "checkpoint-10").mkdir(parents=True)
    (tmp_path / "outer" / "checkpoint-10" / "config.json").touch()
    (tmp_path / "outer" / own).touch()
    assert locate(str(tmp_path / "outer")).name == "outer"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_may_not_be_listed_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir(mode=0)
    with pytest.raises(CheckpointUnreadable, match="may not be listed"):
        locate(str(tmp_path / "model"))


def test_a_file_is_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointUnreadable, match="neither"):
        locate(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("reference", [f"owner/..@{COMMIT}", f"owner/name.git@{COMMIT}", f"owner/a--b@{COMMIT}"])
def test_a_hub_id_that_the_hub_would_not_allow_is_unreadable(reference: str) -> None:
    with pytest.raises(CheckpointUnreadable, match="could not be fetched"):
        locate(reference)


def test_a_commit_may_come_from_the_setting_beside_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointUnreadable, match="could not be fetched") as refused:
        locate("owner/name", COMMIT)
    assert COMMIT[:12] in refused.value.detail
