"""The eighth wave: adapters, the tokenizers and templates that they bring, and merges, by what releases changed."""

from benchmarks.unseen import (
    eighth_adapters_4_5,
    eighth_adapters_harmless,
    eighth_adapters_merges,
    eighth_adapters_texts,
    eighth_adapters_weights,
)

CASES = (
    *eighth_adapters_weights.CASES,
    *eighth_adapters_texts.BROKEN,
    *eighth_adapters_merges.BROKEN,
    *eighth_adapters_4_5.BROKEN,
    *eighth_adapters_harmless.CASES,
    *eighth_adapters_texts.HARMLESS,
    *eighth_adapters_merges.HARMLESS,
    *eighth_adapters_4_5.HARMLESS,
)
