"""Equal fingerprints mean equal content; where a folder lies does not matter."""

from pathlib import Path

from service.checkpoint.fingerprint import content_digests
from service.checkpoint.fingerprint import fingerprint as over
from tests.builders import copy_demo, edited_json


def fingerprint(folder: Path) -> str:
    return over(content_digests(folder))


def test_a_copy_has_the_same_fingerprint(tmp_path: Path) -> None:
    one, other = copy_demo(tmp_path / "a"), copy_demo(tmp_path / "b")
    assert fingerprint(one.base) == fingerprint(other.base)
    assert fingerprint(one.base) != fingerprint(one.adapter)


def test_one_changed_value_changes_it_and_a_trainer_s_file_does_not(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    before = fingerprint(folders.adapter)
    (folders.adapter / "training_args.bin").write_bytes(b"x")
    assert fingerprint(folders.adapter) == before
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["lora_alpha"] += 1
    assert fingerprint(folders.adapter) != before
