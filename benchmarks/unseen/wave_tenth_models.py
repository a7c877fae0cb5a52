"""The tenth wave's cases of models handed in whole."""

from benchmarks.unseen import (
    tenth_models_4_5,
    tenth_models_harmless,
    tenth_models_harmless_4_5,
    tenth_models_settings,
    tenth_models_weights,
)

PARTS = (
    tenth_models_weights,
    tenth_models_settings,
    tenth_models_4_5,
    tenth_models_harmless,
    tenth_models_harmless_4_5,
)
CASES = tuple(case for part in PARTS for case in part.CASES)
