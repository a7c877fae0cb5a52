"""Python files of a base's tokenizer run exactly if the operator trusts them; those of an adapter never."""

from pathlib import Path

import pytest

from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from tests.builders import Folders, copy_demo, copy_tokenizer, edited_json

CODE = """
from pathlib import Path
from transformers import PreTrainedTokenizerFast

Path({!r}).touch()


class Own(PreTrainedTokenizerFast):
    pass
"""


def name_code(folder: Path, trace: Path) -> None:
    (folder / "tokenization_own.py").write_text(CODE.format(str(trace)))
    with edited_json(folder / "tokenizer_config.json") as config:
        config |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "tokenization_own.Own"]}}


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    """Copies whose base is of a type that transformers does not know."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folders = copy_demo(tmp_path)
    with edited_json(folders.base / "config.json") as config:
        config["model_type"] = "own"
    return folders


def test_a_trusted_base_is_read_with_its_own_tokenizer(folders: Folders, tmp_path: Path) -> None:
    name_code(folders.base, tmp_path / "ran")
    plain = read_checkpoint(locate(str(folders.base)), {}).base
    assert plain.tokenizer is None
    assert not (tmp_path / "ran").exists()
    trusted = read_checkpoint(locate(str(folders.base)), {}, is_code_trusted=True).base
    assert trusted.problems == ()
    assert trusted.tokenizer is not None
    assert (tmp_path / "ran").exists()


def test_code_of_an_adapter_is_not_run_even_if_the_base_is_trusted(folders: Folders, tmp_path: Path) -> None:
    copy_tokenizer(folders.base, folders.adapter)
    name_code(folders.adapter, tmp_path / "ran")
    places = {"json": locate(str(folders.adapter))}
    facts = read_checkpoint(locate(str(folders.base)), places, is_code_trusted=True)
    assert facts.base.tokenizer is not None
    assert facts.adapters["json"].tokenizer is None
    assert not (tmp_path / "ran").exists()
