"""How much an under-trained token matters: from its role, and from how often a corpus holds it."""

import json
from pathlib import Path

import pytest

from service.audit.judging import audit
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.domain.judgement import BASE, Degree, Finding, Severity, adapter_subject
from tests.broken import (
    merged_tokens_untrained,
    new_tokens_not_shipped,
    new_tokens_only_read,
    slice_row_zero,
    turn_start_row_zero,
)
from tests.builders import Folders, copy_demo


def corpus(to: Path, num_with: int, *, of: int = 200, prompt: str = "", answer: str = "") -> Path:
    """Write conversations of which some hold more text than the others."""
    lines = []
    for number in range(of):
        asked, said = (prompt, answer) if number < num_with else ("", "")
        turns = [{"role": "user", "content": "你好 " + asked}, {"role": "assistant", "content": "Hi " + said}]
        lines.append(json.dumps({"messages": turns}))
    path = to / "prompts.jsonl"
    path.write_text("\n".join(lines))
    return path


def judged(folders: Folders, path: Path | None, *, with_adapter: bool) -> list[Finding]:
    adapters = {folders.adapter.name: locate(str(folders.adapter))} if with_adapter else {}
    report = audit(read_checkpoint(locate(str(folders.base)), adapters, corpus=path))
    subject = adapter_subject(folders.adapter.name) if with_adapter else BASE
    return [one for one in report.subjects[subject].findings if one.check == "trained_rows" and one.degree]


@pytest.mark.parametrize(
    ("num_with", "prompt", "answer", "degree"),
    [
        (0, "", "", Degree.HARMLESS),
        (1, "<fig>", "", Degree.HARMLESS),
        (2, "<fig>", "", Degree.MODERATE),
        (200, "<fig>", "", Degree.MODERATE),
        (1, "", "<fig>", Degree.SEVERE),
    ],
)
def test_new_tokens_without_rows_matter_as_much_as_the_corpus_needs_them(
    num_with: int, prompt: str, answer: str, degree: Degree, tmp_path: Path
) -> None:
    folders = copy_demo(tmp_path, new_tokens_not_shipped.EXPECTED.adapter)
    new_tokens_not_shipped.make(folders)
    (found,) = judged(folders, corpus(tmp_path, num_with, prompt=prompt, answer=answer), with_adapter=True)
    severity = {"harmless": Severity.NOTE, "moderate": Severity.WARNING, "severe": Severity.FATAL}[degree.value]
    assert (found.degree, found.severity) == (degree, severity)
    assert found.evidence["of_conversations"] == 200
    first = next(iter(found.evidence["occurrences"].values()))
    assert first["conversations"] == num_with
    assert f"({num_with} of 200 conversations of prompts.jsonl hold one)" in found.message


def test_without_a_corpus_what_training_added_is_severe(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path, new_tokens_not_shipped.EXPECTED.adapter)
    new_tokens_not_shipped.make(folders)
    (found,) = judged(folders, None, with_adapter=True)
    assert (found.degree, found.severity) == (Degree.SEVERE, Severity.FATAL)


@pytest.mark.parametrize(("answer", "severity"), [("", Severity.NOTE), ("<fig>", Severity.FATAL)])
def test_tokens_that_can_only_be_read_matter_if_answers_hold_them(
    answer: str, severity: Severity, tmp_path: Path
) -> None:
    folders = copy_demo(tmp_path, "tokens")
    new_tokens_only_read.make(folders)
    (found,) = judged(folders, corpus(tmp_path, 50, prompt="<fig>", answer=answer), with_adapter=True)
    assert found.severity is severity


@pytest.mark.parametrize("num_with", [0, 200])
def test_no_corpus_makes_a_token_in_every_prompt_harmless(num_with: int, tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    turn_start_row_zero.make(folders)
    (found,) = judged(folders, corpus(tmp_path, num_with, prompt="x"), with_adapter=False)
    assert (found.degree, found.severity) == (Degree.SEVERE, Severity.FATAL)


def test_markers_that_the_processor_writes_stay_moderate_whatever_texts_say(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    slice_row_zero.make(folders)
    (found,) = judged(folders, corpus(tmp_path, 0), with_adapter=False)
    assert (found.degree, found.severity) == (Degree.MODERATE, Severity.WARNING)


@pytest.mark.parametrize(("num_with", "severity"), [(0, Severity.NOTE), (100, Severity.WARNING)])
def test_mere_likeness_is_never_more_than_a_warning(num_with: int, severity: Severity, tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    merged_tokens_untrained.make(folders)
    (found,) = judged(folders, corpus(tmp_path, num_with, answer="<fig>"), with_adapter=False)
    assert found.severity is severity


def test_the_table_shows_roles_states_and_exposure(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path, "tokens")
    path = corpus(tmp_path, 50, answer="<fig>")
    facts = read_checkpoint(locate(str(folders.base)), {"tokens": locate(str(folders.adapter))}, corpus=path)
    report = audit(facts)
    base = {one.text: one for one in report.subjects[BASE].used_tokens}
    end, start, pad, image = (base[one] for one in ("<|im_end|>", "<|im_start|>", "<|image_pad|>", "<image>"))
    assert (end.roles, end.input_state, end.output_state) == (("read", "written"), "trained", "trained")
    assert end.sources == ("stop", "template")
    assert (start.roles, start.input_state, start.output_state) == (("read",), "trained", "exempt")
    assert (start.exposure, start.degree) == (1.0, None)
    assert pad.input_state == "exempt"
    assert "replaced" in pad.roles
    assert (image.sources, image.roles) == (("processor",), ("read",))
    mine = {one.text: one for one in report.subjects["adapter:tokens"].used_tokens}
    assert (mine["<fig>"].trained_by, mine["<fig>"].input_state) == ("adapter", "trained")
    assert mine["<fig>"].exposure == 0.25
    assert mine["<|im_end|>"].trained_by == "base"
    assert [one.token_id for one in report.subjects[BASE].used_tokens] == sorted(one.token_id for one in base.values())


def test_the_table_shows_what_nobody_trained(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path, "tokens")
    new_tokens_only_read.make(folders)
    turn_start_row_zero.make(folders)
    report = audit(folders.facts())
    mine = {one.text: one for one in report.subjects["adapter:tokens"].used_tokens}
    assert (mine["<fig>"].input_state, mine["<fig>"].output_state) == ("trained", "untrained")
    assert mine["<fig>"].degree is Degree.MODERATE
    base = {one.text: one for one in report.subjects[BASE].used_tokens}
    assert (base["<|im_start|>"].trained_by, base["<|im_start|>"].degree) == ("nobody", Degree.SEVERE)


def test_a_few_conversations_do_not_show_that_a_token_hardly_occurs(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path, "broken")
    path = corpus(tmp_path, 0, of=5)
    path.write_text(path.read_text() + "\nno JSON\n")
    (found,) = judged(folders, path, with_adapter=True)
    assert found.degree is Degree.MODERATE
    assert "(0 of 5 conversations of prompts.jsonl hold one; 1 could not be read)" in found.message
