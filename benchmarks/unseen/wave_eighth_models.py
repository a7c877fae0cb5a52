"""The eighth wave's models, written without knowing what the audit checks, first from changes between versions."""

from benchmarks.unseen.case import Case
from benchmarks.unseen.eighth_models_4_5 import CASES as BROKEN_4_5
from benchmarks.unseen.eighth_models_harmless import CASES as HARMLESS_4_6
from benchmarks.unseen.eighth_models_harmless_4_5 import CASES as HARMLESS_4_5
from benchmarks.unseen.eighth_models_settings import CASES as SETTINGS_4_6
from benchmarks.unseen.eighth_models_weights import CASES as WEIGHTS_4_6

CASES: tuple[Case, ...] = (*WEIGHTS_4_6, *SETTINGS_4_6, *BROKEN_4_5, *HARMLESS_4_6, *HARMLESS_4_5)
