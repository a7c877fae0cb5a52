"""The sixth wave: models handed in whole, of MiniCPM-V 4.6 and 4.5, written without knowing what the audit checks."""

from benchmarks.unseen.case import Case
from benchmarks.unseen.sixth_models_4_5 import CASES as BROKEN_4_5
from benchmarks.unseen.sixth_models_harmless_4_5 import CASES as HARMLESS_4_5
from benchmarks.unseen.sixth_models_harmless_4_6 import CASES as HARMLESS_4_6
from benchmarks.unseen.sixth_models_settings import CASES as SETTINGS_4_6
from benchmarks.unseen.sixth_models_texts import CASES as TEXTS_4_6
from benchmarks.unseen.sixth_models_weights import CASES as WEIGHTS_4_6

CASES: tuple[Case, ...] = (
    *WEIGHTS_4_6,
    *SETTINGS_4_6,
    *TEXTS_4_6,
    *BROKEN_4_5,
    *HARMLESS_4_6,
    *HARMLESS_4_5,
)
