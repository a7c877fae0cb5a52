"""The fifth wave over adapters and merges of 4.6 and everything of 4.5, written without knowing the audit."""

from benchmarks.unseen.case import Case
from benchmarks.unseen.fifth_adapters_broken_4_5 import CASES as BROKEN_4_5
from benchmarks.unseen.fifth_adapters_broken_4_6 import CASES as BROKEN_4_6
from benchmarks.unseen.fifth_adapters_broken_merges import CASES as BROKEN_MERGES
from benchmarks.unseen.fifth_adapters_harmless_4_5 import CASES as HARMLESS_4_5
from benchmarks.unseen.fifth_adapters_harmless_4_6 import CASES as HARMLESS_4_6
from benchmarks.unseen.fifth_adapters_harmless_merges import CASES as HARMLESS_MERGES

CASES: tuple[Case, ...] = (
    *BROKEN_4_6,
    *BROKEN_MERGES,
    *BROKEN_4_5,
    *HARMLESS_4_6,
    *HARMLESS_MERGES,
    *HARMLESS_4_5,
)
