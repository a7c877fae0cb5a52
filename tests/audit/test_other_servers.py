"""What other servers do with an adapter is noted with the least that makes them serve it."""

from dataclasses import replace
from typing import Any

import pytest

from service.audit.check import AdapterView
from service.audit.checks.other_servers import other_servers
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.demo import demo_root
from service.domain.facts import CheckpointFacts


@pytest.fixture(scope="module")
def facts() -> CheckpointFacts:
    root = demo_root() / "minicpmv4_5"
    return read_checkpoint(locate(str(root / "base")), {"official": locate(str(root / "adapters" / "official"))})


def way_out(facts: CheckpointFacts, *, is_shared: bool = False, config: dict[str, Any] | None = None, **of: Any) -> str:
    adapter = replace(facts.adapters["official"], documents={"adapter_config.json": config or {}}, **of)
    base = replace(facts.base, head=None) if is_shared else facts.base
    (found,) = other_servers(AdapterView(base, adapter, None))
    return found.repair


def test_whole_modules_are_folded_and_a_high_rank_is_a_setting(facts: CheckpointFacts) -> None:
    repair = way_out(facts)
    assert "repair ADAPTER --base BASE --fold --output DIR; start it with --max-lora-rank 64." in repair
    assert "merge" not in repair


@pytest.mark.parametrize(("rank", "limit"), [(17, 32), (64, 64), (300, 320)])
def test_a_high_rank_alone_needs_the_next_limit_that_vllm_takes(rank: int, limit: int, facts: CheckpointFacts) -> None:
    only = way_out(facts, modules_to_save=(), ranks=frozenset({rank}))
    assert only == f"Start it with --max-lora-rank {limit}."


@pytest.mark.parametrize(
    ("of", "is_shared"),
    [({"config": {"use_dora": True}}, False), ({"ranks": frozenset({600})}, False), ({}, True)],
    ids=["DoRA", "a rank beyond all limits", "one matrix for input and output"],
)
def test_what_folding_does_not_help_is_merged(of: dict[str, Any], is_shared: bool, facts: CheckpointFacts) -> None:
    assert "minicpm-service merge" in way_out(facts, is_shared=is_shared, **of)


def test_a_low_rank_with_factors_alone_is_no_note(facts: CheckpointFacts) -> None:
    adapter = replace(facts.adapters["official"], modules_to_save=(), ranks=frozenset({8}), documents={})
    assert list(other_servers(AdapterView(facts.base, adapter, None))) == []
