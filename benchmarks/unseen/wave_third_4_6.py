"""The third wave over the demo of MiniCPM-V 4.6; its parts are the modules beside it whose names begin alike."""

from benchmarks.unseen import (
    third_4_6_adapters,
    third_4_6_harmless_adapters,
    third_4_6_harmless_models,
    third_4_6_harmless_templates,
    third_4_6_merges,
    third_4_6_settings,
    third_4_6_templates,
    third_4_6_text,
    third_4_6_weights,
)
from benchmarks.unseen.case import Case

CASES: tuple[Case, ...] = (
    *third_4_6_text.CASES,
    *third_4_6_templates.CASES,
    *third_4_6_settings.CASES,
    *third_4_6_weights.CASES,
    *third_4_6_adapters.CASES,
    *third_4_6_merges.CASES,
    *third_4_6_harmless_models.CASES,
    *third_4_6_harmless_templates.CASES,
    *third_4_6_harmless_adapters.CASES,
)
