"""Rows of a tuned folder are judged relative to the folder that it was tuned from."""

from pathlib import Path

import pytest
import torch

from service.audit.judging import audit
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.domain.judgement import BASE, Finding, Severity
from tests.broken import merged_tokens_untrained
from tests.builders import EMBEDDING, HEAD, Folders, add_token, copy_demo, edited_tensors, token_id

LOUD = (Severity.FATAL, Severity.WARNING, Severity.SKIPPED)
ROWS = ("trained_rows", "row_health")


@pytest.fixture
def origin(tmp_path: Path) -> Folders:
    return copy_demo(tmp_path / "origin")


@pytest.fixture
def tuned(tmp_path: Path) -> Folders:
    return copy_demo(tmp_path / "tuned")


def judged(tuned: Folders, origin: Folders) -> list[Finding]:
    """Judge a folder with its origin, and keep what is about rows."""
    report = audit(read_checkpoint(locate(str(tuned.base)), {}, origin=locate(str(origin.base))))
    return [one for one in report.subjects[BASE].findings if one.check in ROWS]


def loud(found: list[Finding]) -> list[tuple[str, str]]:
    return [(one.check, one.severity.value) for one in found if one.severity in LOUD]


def test_an_unchanged_folder_has_no_finding(tuned: Folders, origin: Folders) -> None:
    assert loud(judged(tuned, origin)) == []


def test_a_row_that_was_as_bad_in_the_origin_is_a_note(tuned: Folders, origin: Folders) -> None:
    for folders in (tuned, origin):
        with edited_tensors(folders.base_weights) as tensors:
            tensors[EMBEDDING][token_id(folders.base, "<|im_start|>")] = 0
    found = judged(tuned, origin)
    assert loud(found) == []
    assert any("so it is in the base that it was tuned from" in one.message for one in found)


@pytest.mark.parametrize("factor", [-1, 1000])
def test_a_row_that_training_cannot_have_made_of_the_origin_s_is_fatal(
    factor: float, tuned: Folders, origin: Folders
) -> None:
    with edited_tensors(tuned.base_weights) as tensors:
        tensors[EMBEDDING][token_id(tuned.base, "<|im_start|>")] *= factor
    found = judged(tuned, origin)
    assert set(loud(found)) == {("row_health", "fatal")}
    assert "<|im_start|>" in found[0].message


def test_a_flipped_output_row_of_the_end_of_a_turn_is_fatal(tuned: Folders, origin: Folders) -> None:
    with edited_tensors(tuned.base_weights) as tensors:
        tensors[HEAD][token_id(tuned.base, "<|im_end|>")] *= -1
    assert loud(judged(tuned, origin)) == [("row_health", "fatal")]


def test_rows_that_changed_places_are_named_with_the_token_that_they_belong_to(tuned: Folders, origin: Folders) -> None:
    rows = [token_id(tuned.base, "<|im_start|>"), token_id(tuned.base, "<|im_end|>")]
    with edited_tensors(tuned.base_weights) as tensors:
        tensors[EMBEDDING][rows] = tensors[EMBEDDING][rows[::-1]].clone()
    found = judged(tuned, origin)
    assert loud(found) == [("row_health", "fatal")] * 2
    assert f"is the origin's row of id {rows[1]}" in found[0].message


@pytest.mark.parametrize("shift", [1, -1, 3])
def test_a_matrix_off_by_some_ids_is_fatal(shift: int, tuned: Folders, origin: Folders) -> None:
    with edited_tensors(tuned.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            tensors[name] = tensors[name].roll(shift, 0)
    assert ("row_health", "fatal") in loud(judged(tuned, origin))


def test_further_training_of_every_row_is_no_finding(tuned: Folders, origin: Folders) -> None:
    torch.manual_seed(0)
    with edited_tensors(tuned.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            tensors[name] = tensors[name] + 0.01 * torch.randn(tensors[name].shape).to(tensors[name])
    assert loud(judged(tuned, origin)) == []


def test_a_row_that_the_origin_had_not_trained_may_turn_as_far_as_it_likes(tuned: Folders, origin: Folders) -> None:
    torch.manual_seed(0)
    with edited_tensors(tuned.base_weights) as tensors:
        row = 0.05 * torch.randn(tensors[EMBEDDING].shape[1])
        tensors[EMBEDDING][token_id(tuned.base, "<slice>")] = row.to(tensors[EMBEDDING])
    assert loud(judged(tuned, origin)) == []


def test_new_tokens_with_the_origin_s_spare_rows_are_fatal(tuned: Folders, origin: Folders) -> None:
    merged_tokens_untrained.make(tuned)
    found = judged(tuned, origin)
    assert loud(found) == [("trained_rows", "fatal")]
    assert "<fig> (id 761)" in found[0].message


def test_new_tokens_with_trained_rows_are_no_finding_and_reserved_ones_neither(tuned: Folders, origin: Folders) -> None:
    torch.manual_seed(0)
    new = add_token(tuned.base, "<stamp>")
    with edited_tensors(tuned.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            tensors[name][new] += 0.05 * torch.randn(tensors[name].shape[1]).to(tensors[name])
    add_token(tuned.base, "<|reserved_9|>")
    assert loud(judged(tuned, origin)) == []


def test_new_tokens_that_can_be_read_and_not_written_are_a_warning(tuned: Folders, origin: Folders) -> None:
    torch.manual_seed(0)
    new = add_token(tuned.base, "<stamp>")
    with edited_tensors(tuned.base_weights) as tensors:
        tensors[EMBEDDING][new] += 0.05 * torch.randn(tensors[EMBEDDING].shape[1]).to(tensors[EMBEDDING])
    assert loud(judged(tuned, origin)) == [("trained_rows", "warning")]
