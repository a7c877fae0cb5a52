"""`audit` as a process of its own: its status and its whole output reach whoever started it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.audit.judging import audit as judge
from service.audit.reports.document import report_json
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.demo import demo_root
from tests.broken import base_tensor_missing, turn_start_row_zero
from tests.builders import Folders, copy_demo, edited_json


def audit(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "service", "audit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return copy_demo(tmp_path)


def test_the_whole_report_is_written_before_the_process_ends(folders: Folders) -> None:
    turn_start_row_zero.make(folders)
    done = audit(folders.base, "--format", "json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["verdict"] == "inconsistent"


def test_a_process_reports_what_the_service_would(folders: Folders) -> None:
    """The command does without torch, the service does not."""
    base_tensor_missing.make(folders)
    done = audit(folders.base, "--format", "json")
    facts = read_checkpoint(locate(str(folders.base)), {})
    assert json.loads(done.stdout) == json.loads(json.dumps(report_json(judge(facts))))
    assert done.stderr == ""


def test_a_corpus_without_conversations_could_not_run(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text("{")
    done = audit(folders.base, "--corpus", tmp_path / "prompts.jsonl")
    assert done.returncode == 2
    assert "prompts.jsonl" in done.stderr
    assert "line 1" in done.stderr


def test_a_corpus_is_counted(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "你好", "answer": "Hello"}\n')
    assert audit(folders.base, "--corpus", tmp_path / "prompts.jsonl").returncode == 0


def test_lines_of_a_corpus_that_were_left_out_are_told(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "你好", "answer": "Hello"}\n{\n[]\n')
    done = audit(folders.base, "--corpus", tmp_path / "prompts.jsonl")
    assert done.returncode == 0
    told = "corpus prompts.jsonl: 1 conversation(s) counted, 2 line(s) left out, first line 2: is not JSON: "
    assert done.stderr.startswith(told), done.stderr


def test_a_minicpm_o_is_refused_in_one_sentence_and_no_library_speaks(tmp_path: Path) -> None:
    shutil.copytree(demo_root() / "minicpmv4_5" / "base", tmp_path / "o")
    with edited_json(tmp_path / "o" / "config.json") as config:
        config |= {"model_type": "minicpmo", "architectures": ["MiniCPMO"]}
    done = audit(tmp_path / "o", "--format", "json")
    found = json.loads(done.stdout)["subjects"]["base"]["findings"]
    assert [one["check"] for one in found] == ["served_model"]
    assert found[0]["message"].startswith("MiniCPM-o is not served; of MiniCPM-V, 2.6")
    assert "architectures" not in found[0]["repair"]
    assert done.stderr == ""
