"""The seventh wave, of adapters: what people bring who tune, convert, merge, copy and serve them, and its files."""

from benchmarks.unseen.case import Case
from benchmarks.unseen.seventh_adapters_4_5 import BROKEN as BROKEN_4_5
from benchmarks.unseen.seventh_adapters_4_5 import HARMLESS as HARMLESS_4_5
from benchmarks.unseen.seventh_adapters_broken_4_6 import CASES as BROKEN_WEIGHTS_4_6
from benchmarks.unseen.seventh_adapters_broken_texts import CASES as BROKEN_TEXTS_4_6
from benchmarks.unseen.seventh_adapters_harmless_4_6 import CASES as HARMLESS_4_6
from benchmarks.unseen.seventh_adapters_merges import BROKEN as BROKEN_MERGES
from benchmarks.unseen.seventh_adapters_merges import HARMLESS as HARMLESS_MERGES

CASES: tuple[Case, ...] = (
    *BROKEN_WEIGHTS_4_6,
    *BROKEN_TEXTS_4_6,
    *BROKEN_MERGES,
    *BROKEN_4_5,
    *HARMLESS_4_6,
    *HARMLESS_MERGES,
    *HARMLESS_4_5,
)
