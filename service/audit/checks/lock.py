"""Check of a folder against its lock: is it still what somebody recorded.

Knows no content, only that it changed.
"""

from collections.abc import Iterator

from service.audit.check import AdapterView, BaseView, Check, Outcome, fatal, note, warning
from service.domain.facts import LockFacts

LOCK = "checkpoint.lock.json"
SHOWN = 5
AGAIN = "If the change is wanted, judge the folder and run: minicpm-service record DIR"
WHY = """\
`minicpm-service record` writes down the hash of every file that decides what is served, when the folder is known to be
good. A copy that was cut off, a file taken from another revision, a config that somebody edited on the server: all of
it leaves the folder loadable and different. A JSON file that was only written anew, with the same values, is noted and
not held against it; README and logs are not recorded at all."""


def base_lock(view: BaseView) -> Iterator[Outcome]:
    """Look at the base's lock."""
    yield from _lock(view.base.lock)


def adapter_lock(view: AdapterView) -> Iterator[Outcome]:
    """Look at an adapter's lock."""
    yield from _lock(view.adapter.lock)


def _lock(lock: LockFacts | None) -> Iterator[Outcome]:
    if lock is None:
        return
    if lock.problem:
        yield warning(
            f"{LOCK} {lock.problem}",
            {"file": LOCK},
            "Nothing shows whether the folder is still what was recorded.",
            AGAIN,
        )
        return
    spelled = [one for one in lock.drifts if one.is_same_content]
    drifted = [one for one in lock.drifts if not one.is_same_content]
    if drifted:
        shown = ", ".join(f"{one.file} ({one.kind})" for one in drifted[:SHOWN])
        yield fatal(
            f"{len(drifted)} file(s) are not as recorded on {lock.recorded_at}: {shown}",
            {"files": {one.file: one.kind for one in drifted[:50]}, "recorded": lock.fingerprint},
            "What would be served is not what was recorded and approved.",
            "Restore the files from where the lock was written. " + AGAIN,
        )
    if spelled:
        yield note(
            f"{', '.join(one.file for one in spelled[:SHOWN])} was written anew with the same values",
            {"files": [one.file for one in spelled[:50]]},
        )


CHECK = Check("lock", "The folder is what was recorded", base_lock, adapter_lock, takes_foreign=True, why=WHY)
