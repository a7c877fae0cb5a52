"""The fifth wave, models: bases, tuned and merged models of 4.6, written without knowing what the audit checks."""

from benchmarks.unseen.case import Case
from benchmarks.unseen.fifth_models_harmless_files import CASES as HARMLESS_FILES
from benchmarks.unseen.fifth_models_harmless_weights import CASES as HARMLESS_WEIGHTS
from benchmarks.unseen.fifth_models_settings import CASES as BROKEN_SETTINGS
from benchmarks.unseen.fifth_models_texts import CASES as BROKEN_TEXTS
from benchmarks.unseen.fifth_models_weights import CASES as BROKEN_WEIGHTS

CASES: tuple[Case, ...] = (
    *BROKEN_WEIGHTS,
    *BROKEN_SETTINGS,
    *BROKEN_TEXTS,
    *HARMLESS_WEIGHTS,
    *HARMLESS_FILES,
)
