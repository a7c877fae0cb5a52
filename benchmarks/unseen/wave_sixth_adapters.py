"""The sixth wave: adapters and merges over both demos, written without knowing what the audit checks."""

from benchmarks.unseen.case import Case
from benchmarks.unseen.sixth_adapters_broken_4_5 import CASES as BROKEN_4_5
from benchmarks.unseen.sixth_adapters_broken_4_6_texts import CASES as BROKEN_TEXTS_4_6
from benchmarks.unseen.sixth_adapters_broken_4_6_weights import CASES as BROKEN_WEIGHTS_4_6
from benchmarks.unseen.sixth_adapters_broken_merges import CASES as BROKEN_MERGES
from benchmarks.unseen.sixth_adapters_harmless_4_6 import CASES as HARMLESS_4_6
from benchmarks.unseen.sixth_adapters_harmless_others import CASES as HARMLESS_OTHERS

CASES: tuple[Case, ...] = (
    *BROKEN_WEIGHTS_4_6,
    *BROKEN_TEXTS_4_6,
    *BROKEN_4_5,
    *BROKEN_MERGES,
    *HARMLESS_4_6,
    *HARMLESS_OTHERS,
)
