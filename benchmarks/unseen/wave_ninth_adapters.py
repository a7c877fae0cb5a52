"""The ninth wave: adapters, their texts and their merges, from what users and deployments report."""

from benchmarks.unseen.case import Case
from benchmarks.unseen.ninth_adapters_4_5 import CASES as BROKEN_4_5
from benchmarks.unseen.ninth_adapters_harmless_4_6 import CASES as HARMLESS_4_6
from benchmarks.unseen.ninth_adapters_harmless_others import CASES as HARMLESS_OTHERS
from benchmarks.unseen.ninth_adapters_merges import CASES as BROKEN_MERGES
from benchmarks.unseen.ninth_adapters_texts import CASES as BROKEN_TEXTS
from benchmarks.unseen.ninth_adapters_weights import CASES as BROKEN_WEIGHTS

CASES: tuple[Case, ...] = (
    *BROKEN_WEIGHTS,
    *BROKEN_TEXTS,
    *BROKEN_MERGES,
    *BROKEN_4_5,
    *HARMLESS_4_6,
    *HARMLESS_OTHERS,
)
