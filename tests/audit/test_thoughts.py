"""Marks of thoughts without a token: lost where a row or the model's type shows it, and else a way of writing them."""

from dataclasses import replace
from pathlib import Path

from service.audit.judging import audit
from service.domain.facts import CheckpointFacts
from service.domain.judgement import Finding, Severity
from tests.builders import Folders, copy_demo, cut_rows, edited_json, token_id


def without_tokens(to: Path, *texts: str) -> Folders:
    folders = copy_demo(to)
    with edited_json(folders.base / "tokenizer.json") as document:
        document["added_tokens"] = [one for one in document["added_tokens"] if one["content"] not in texts]
    return folders


def found(facts: CheckpointFacts, model_type: str = "minicpmv4_6") -> list[Finding]:
    facts = replace(facts, base=replace(facts.base, model_type=model_type))
    return [one for one in audit(facts).findings() if one.check == "chat_template"]


def test_a_trained_row_that_no_token_reaches_shows_the_loss_in_any_family(tmp_path: Path) -> None:
    folders = without_tokens(tmp_path, "</think>")
    lost = token_id(copy_demo(tmp_path / "sound").base, "</think>")
    (finding,) = found(folders.facts(with_adapter=False), "llama")
    assert finding.severity is Severity.FATAL
    assert finding.evidence["trained_rows"] == [lost]
    assert "<think>" not in finding.message.replace("</think>", "")


def test_without_such_a_row_the_family_decides(tmp_path: Path) -> None:
    folders = without_tokens(tmp_path, "<think>", "</think>")
    cut_rows(folders, token_id(folders.base, "</image_id>") + 1)
    facts = folders.facts(with_adapter=False)
    (finding,) = found(facts)
    assert finding.severity is Severity.FATAL
    assert "every official vocabulary of minicpmv4_6" in finding.message
    (finding,) = found(facts, "minicpm")
    assert finding.severity is Severity.NOTE
