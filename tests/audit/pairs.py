"""Judges a folder together with the one that it was made from, for test_origin.py and test_merge.py."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from service.audit.judging import audit
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.demo import demo_root
from service.domain.facts import CheckpointFacts
from service.domain.judgement import Finding, Severity

LOUD = (Severity.FATAL, Severity.WARNING, Severity.SKIPPED)


@dataclass(frozen=True)
class Pair:
    """An origin, an adapter, and what is said to have come of them."""

    origin: Path
    tuned: Path
    adapter: Path

    @property
    def tuned_weights(self) -> Path:
        return self.tuned / "model.safetensors"

    @property
    def origin_weights(self) -> Path:
        return self.origin / "model.safetensors"

    @property
    def adapter_weights(self) -> Path:
        return self.adapter / "adapter_model.safetensors"

    def facts(self, *, is_merge: bool = False) -> CheckpointFacts:
        """Read the tuned folder with its origin, or with origin and adapter."""
        tuned, origin = locate(str(self.tuned)), locate(str(self.origin))
        if is_merge:
            return read_checkpoint(tuned, {}, merged_from=(origin, locate(str(self.adapter))))
        return read_checkpoint(tuned, {}, origin=origin)

    def loud(self, *, is_merge: bool = False) -> list[Finding]:
        """Return what the audit says that is not a note."""
        return [one for one in audit(self.facts(is_merge=is_merge)).findings() if one.severity in LOUD]


def copy_pair(to: Path, tuned: str = "merged", adapter: str = "json") -> Pair:
    """Copy the demo's base, its merged folder (or the base once more), and an adapter."""
    pair = Pair(to / "origin", to / "tuned", to / "adapter")
    shutil.copytree(demo_root() / "base", pair.origin)
    shutil.copytree(demo_root() / tuned, pair.tuned)
    shutil.copytree(demo_root() / "adapters" / adapter, pair.adapter)
    return pair


def only(findings: list[Finding], check: str) -> list[str]:
    """Return the messages, provided that all are of one check."""
    assert {one.check for one in findings} == {check}, [(one.check, one.message) for one in findings]
    assert all(one.consequence and one.repair and one.subject == "base" for one in findings)
    return [one.message for one in findings]
