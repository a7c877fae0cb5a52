"""An adapter of another family is told once, by its modules' names, and what only follows from that is held back."""

from dataclasses import replace

import pytest

from service.audit.judging import audit
from service.audit.layouts import foreign_layout, layout_of
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.demo import demo_root
from service.domain.facts import CheckpointFacts

BASES = {"4.6": demo_root() / "base", "4.5": demo_root() / "minicpmv4_5" / "base"}
ADAPTERS = {"4.6": demo_root() / "adapters" / "official", "4.5": demo_root() / "minicpmv4_5" / "adapters" / "official"}


def facts_of(base: str, adapter: str) -> CheckpointFacts:
    return read_checkpoint(locate(str(BASES[base])), {"o": locate(str(ADAPTERS[adapter]))})


@pytest.mark.parametrize(("base", "adapter", "named"), [("4.6", "4.5", "2.6 to 4.5"), ("4.5", "4.6", "4.6 or later")])
def test_the_family_is_the_only_finding_and_names_both(base: str, adapter: str, named: str) -> None:
    report = audit(facts_of(base, adapter)).subjects["adapter:o"]
    (found,) = report.findings
    assert found.message.startswith(f"this is an adapter of MiniCPM-V {named} (modules ")
    assert f"the base is MiniCPM-V {base}" in found.message
    assert "minicpm-demo" in found.repair
    assert set(report.checks) == {"adapter_keys", "adapter_config", "adapter_applied", "finite_weights", "lock"}


@pytest.mark.parametrize("version", BASES)
def test_an_adapter_of_the_base_s_family_is_not_foreign(version: str) -> None:
    facts = facts_of(version, version)
    adapter = facts.adapters["o"]
    assert foreign_layout(adapter, facts.base) is None
    half = replace(adapter.attachment, unknown=("llm.a", "model.language_model.a"), num_modules=3)
    assert foreign_layout(replace(adapter, attachment=half), facts.base) is None


def test_names_of_no_family_are_of_none() -> None:
    assert layout_of(["foo.bar", "llm.model.layers.0"]) is None
    assert layout_of([]) is None
