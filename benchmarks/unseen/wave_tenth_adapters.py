"""The tenth wave, adapters: threads in the order in which plain searches found them, reproduced on the demos."""

from benchmarks.unseen.case import Case
from benchmarks.unseen.tenth_adapters_4_5 import CASES as BROKEN_4_5
from benchmarks.unseen.tenth_adapters_harmless import CASES as HARMLESS_4_6
from benchmarks.unseen.tenth_adapters_harmless_others import CASES as HARMLESS_OTHERS
from benchmarks.unseen.tenth_adapters_merges import CASES as BROKEN_MERGES
from benchmarks.unseen.tenth_adapters_weights import CASES as BROKEN_4_6

CASES: tuple[Case, ...] = (*BROKEN_4_6, *BROKEN_4_5, *BROKEN_MERGES, *HARMLESS_4_6, *HARMLESS_OTHERS)
