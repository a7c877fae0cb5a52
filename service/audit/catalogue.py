"""The list of checks, in the order in which reports show them.

Knows no facts; to add a check, write its rule in `checks/` and name it here.
"""

from service.audit.check import Check
from service.audit.checks import (
    adapters,
    behaviour,
    merge,
    model_config,
    origin,
    picture_settings,
    rows,
    tokens,
    vocabulary,
    weights,
    weights_complete,
)

CHECKS: tuple[Check, ...] = (
    Check("files", "Every file is there, whole and safe to read", of_base=weights.base_files, why=weights.WHY_FILES),
    weights_complete.CHECK,
    model_config.CHECK,
    picture_settings.CHECK,
    Check(
        "rows_cover_ids",
        "Every id has a row in the input and the output matrix",
        vocabulary.base_rows_cover_ids,
        vocabulary.adapter_rows_cover_ids,
        why=vocabulary.WHY_ROWS,
    ),
    Check(
        "config_rows",
        "The declared vocabulary size is the stored one",
        vocabulary.base_config_rows,
        why=vocabulary.WHY_CONFIG_ROWS,
    ),
    Check(
        "tied_embeddings",
        "The matrices are tied exactly if declared so",
        vocabulary.base_tied_embeddings,
        why=vocabulary.WHY_TIE,
    ),
    Check(
        "special_ids",
        "Special, stop and placeholder ids are the same in every file",
        tokens.base_special_ids,
        tokens.adapter_special_ids,
    ),
    Check(
        "tokenizer_faithful",
        "The tokenizer reads as its tokenizer.json says",
        tokens.base_tokenizer_faithful,
        tokens.adapter_tokenizer_faithful,
    ),
    Check("adapter_applied", "Every tensor fits and is applied", of_adapter=adapters.adapter_applied),
    Check("extra_tensors", "Full tensors are exactly modules_to_save", of_adapter=adapters.adapter_extra_tensors),
    Check(
        "finite_weights",
        "No NaN, no infinity, nothing zero throughout",
        weights.base_finite_weights,
        weights.adapter_finite_weights,
    ),
    Check(
        "trained_rows",
        "Tokens in use have trained rows",
        rows.base_trained_rows,
        rows.adapter_trained_rows,
    ),
    origin.CHECK,
    merge.CHECK,
    Check("adapter_effect", "The adapter changes the answer", of_adapter=behaviour.adapter_effect, needs_loaded=True),
)
