"""Loads what the audit let through and measures it once, for the command line; nothing runs on afterwards.

Knows no HTTP and no check.
"""

from collections.abc import Mapping
from pathlib import Path

from service.domain.facts import CheckpointFacts, LoadedFacts
from service.domain.judgement import BASE, Report, Verdict, adapter_subject


def probe(facts: CheckpointFacts, report: Report, base: Path, adapters: Mapping[str, Path]) -> LoadedFacts | None:
    """Measure base and adapters in memory; None if the files refuse the base.

    Args:
        facts: What the files say.
        report: What follows from that; adapters that it refuses are not loaded.
        base: The base's folder.
        adapters: Folders by name.

    Raises:
        CheckpointError: The base cannot be loaded.
    """
    if report.verdict(BASE) is Verdict.INCONSISTENT:
        return None
    from service.audit.usage import control_tokens
    from service.engine.loading import LoadPlan, load
    from service.engine.measuring import measure

    served = {
        name: folder for name, folder in adapters.items() if report.verdict(adapter_subject(name)) is Verdict.CONSISTENT
    }
    return measure(load(LoadPlan(base, served, None, control_tokens(facts.base))))
