"""Random sound edits of vocabulary rows never make a finding; random damage to a row in use always does."""

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.audit.judging import audit
from service.domain.judgement import BASE, Severity, Verdict, adapter_subject
from tests.builders import (
    EMBEDDING,
    HEAD,
    PREFIX,
    Folders,
    add_token,
    copy_demo,
    declare_tie,
    edited_json,
    edited_tensors,
    share_matrix,
    token_id,
)

LOUD = (Severity.FATAL, Severity.WARNING, Severity.SKIPPED)
FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
READ = ("<|im_start|>", "<|im_end|>", "<image>", "</image>", "<think>", "</think>")
TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def zero(rows: torch.Tensor, one: int) -> None:
    rows[one] = 0


def mean(rows: torch.Tensor, one: int) -> None:
    rows[one] = ((rows.float().sum(0) - rows[one].float()) / (len(rows) - 1)).to(rows)


def copy(rows: torch.Tensor, one: int) -> None:
    rows[one] = rows[300]


def explode(rows: torch.Tensor, one: int) -> None:
    rows[one] *= 500


def vanish(rows: torch.Tensor, one: int) -> None:
    rows[one] *= 1e-5


def nothing_finite(rows: torch.Tensor, one: int) -> None:
    rows[one] = float("nan")


DAMAGE = {one.__name__: one for one in (zero, mean, copy, explode, vanish, nothing_finite)}


def pad(folders: Folders, num_spare: int, kind: str) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            rows = tensors[name]
            spare = {
                "zero": torch.zeros(num_spare, rows.shape[1]),
                "mean": rows.float().mean(0).repeat(num_spare, 1),
                "random": 0.02 * torch.randn(num_spare, rows.shape[1]),
                "copies": rows[-1:].repeat(num_spare, 1),
            }[kind]
            tensors[name] = torch.cat([rows, spare.to(rows)])
        num_rows = len(tensors[EMBEDDING])
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["vocab_size"] = num_rows


@given(
    num_spare=st.integers(0, 400),
    kind=st.sampled_from(["zero", "mean", "random", "copies"]),
    dtype=st.sampled_from(sorted(TYPES)),
    tie=st.sampled_from(["as it is", "one tensor", "two equal tensors", "untied equal"]),
    num_reserved=st.integers(0, 6),
)
@FEW
def test_sound_edits_never_make_a_finding(num_spare: int, kind: str, dtype: str, tie: str, num_reserved: int) -> None:
    torch.manual_seed(num_spare)
    with tempfile.TemporaryDirectory() as temporary:
        folders = copy_demo(Path(temporary))
        pad(folders, num_spare, kind)
        with edited_tensors(folders.base_weights) as tensors:
            for name in (EMBEDDING, HEAD):
                tensors[name] = tensors[name].to(TYPES[dtype])
            if tie != "as it is":
                share_matrix(folders, tensors)
            if tie == "one tensor":
                del tensors[HEAD]
        declare_tie(folders, is_tied=tie in ("one tensor", "two equal tensors"))
        for number in range(num_reserved):
            add_token(folders.base, f"<|reserved_special_token_{number}|>")
        report = audit(folders.facts(with_adapter=False))
        assert [one.message for one in report.findings() if one.severity in LOUD] == []


@given(token=st.sampled_from(READ), damage=st.sampled_from(sorted(DAMAGE)), dtype=st.sampled_from(sorted(TYPES)))
@settings(FEW, max_examples=20)
def test_damage_to_the_input_row_of_a_token_in_use_is_always_fatal(token: str, damage: str, dtype: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folders = copy_demo(Path(temporary))
        with edited_tensors(folders.base_weights) as tensors:
            tensors[EMBEDDING] = tensors[EMBEDDING].to(TYPES[dtype])
            DAMAGE[damage](tensors[EMBEDDING], token_id(folders.base, token))
        report = audit(folders.facts(with_adapter=False))
        assert report.verdict(BASE) is Verdict.INCONSISTENT
        assert any(one.severity is Severity.FATAL for one in report.subjects[BASE].findings)


@given(token=st.sampled_from(READ), damage=st.sampled_from(sorted(DAMAGE)))
@settings(FEW, max_examples=15)
def test_an_adapter_s_matrix_that_damages_a_row_is_refused_and_the_base_is_not(token: str, damage: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folders = copy_demo(Path(temporary), "official")
        with edited_tensors(folders.adapter_weights) as tensors:
            DAMAGE[damage](tensors[PREFIX + EMBEDDING], token_id(folders.base, token))
        report = audit(folders.facts())
        assert report.verdict(adapter_subject("official")) is Verdict.INCONSISTENT
        assert report.verdict(BASE) is Verdict.CONSISTENT


@pytest.mark.parametrize("damage", sorted(DAMAGE))
def test_damage_to_the_output_row_of_the_end_of_a_turn_is_fatal(damage: str, tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    with edited_tensors(folders.base_weights) as tensors:
        DAMAGE[damage](tensors[HEAD], token_id(folders.base, "<|im_end|>"))
    assert audit(folders.facts(with_adapter=False)).verdict(BASE) is Verdict.INCONSISTENT


@pytest.mark.parametrize("damage", sorted(DAMAGE))
def test_damage_to_a_placeholder_s_row_is_none_unless_it_is_not_finite(damage: str, tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    with edited_tensors(folders.base_weights) as tensors:
        DAMAGE[damage](tensors[EMBEDDING], token_id(folders.base, "<|image_pad|>"))
    report = audit(folders.facts(with_adapter=False))
    loud = {one.check for one in report.findings() if one.severity in LOUD}
    assert loud == ({"finite_weights"} if damage == "nothing_finite" else set())
