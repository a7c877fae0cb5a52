"""The ninth wave over models: what users and deployers report, written without knowing what the audit checks."""

from benchmarks.unseen.case import Case
from benchmarks.unseen.ninth_models_4_5 import CASES as BROKEN_4_5
from benchmarks.unseen.ninth_models_harmless_4_5 import CASES as HARMLESS_4_5
from benchmarks.unseen.ninth_models_harmless_4_6 import CASES as HARMLESS_4_6
from benchmarks.unseen.ninth_models_settings import CASES as SETTINGS
from benchmarks.unseen.ninth_models_texts import CASES as TEXTS
from benchmarks.unseen.ninth_models_weights import CASES as WEIGHTS

CASES: tuple[Case, ...] = (*WEIGHTS, *SETTINGS, *TEXTS, *BROKEN_4_5, *HARMLESS_4_6, *HARMLESS_4_5)
