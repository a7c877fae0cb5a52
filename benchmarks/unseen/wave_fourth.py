"""The fourth wave: cases over the demos of MiniCPM-V 4.6 and 4.5, written without knowing what the audit checks."""

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_4_5_broken import CASES as BROKEN_4_5
from benchmarks.unseen.fourth_4_5_harmless import CASES as HARMLESS_4_5
from benchmarks.unseen.fourth_4_6_broken_adapters import CASES as BROKEN_ADAPTERS_4_6
from benchmarks.unseen.fourth_4_6_broken_models import CASES as BROKEN_MODELS_4_6
from benchmarks.unseen.fourth_4_6_harmless_adapters import CASES as HARMLESS_ADAPTERS_4_6
from benchmarks.unseen.fourth_4_6_harmless_models import CASES as HARMLESS_MODELS_4_6

CASES: tuple[Case, ...] = (
    *BROKEN_MODELS_4_6,
    *BROKEN_ADAPTERS_4_6,
    *BROKEN_4_5,
    *HARMLESS_MODELS_4_6,
    *HARMLESS_ADAPTERS_4_6,
    *HARMLESS_4_5,
)
