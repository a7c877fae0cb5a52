"""The list of checks, in the order in which reports show them.

Knows no facts; to add a check, write its rule in `checks/` and name it here.
"""

from service.audit.check import Check
from service.audit.checks import (
    adapter_config,
    adapter_keys,
    adapter_lineage,
    adapters,
    answer_ends,
    behaviour,
    chat_template,
    control_text,
    flat_output,
    lock,
    merge,
    minicpmv,
    model_config,
    origin,
    other_servers,
    picture_effect,
    picture_markers,
    picture_settings,
    quantization,
    row_health,
    rows,
    saved_modules,
    served_model,
    stop_set,
    token_flags,
    tokenizer_sound,
    tokenizer_unchanged,
    tokens,
    vocabulary,
    weights,
    weights_complete,
)

WHY = {
    "special_ids": """\
The prompt marks a picture with one id; the model looks for the same one in config.json, the processor in the
tokenizer's names. Files of two revisions, or a tokenizer of a relative of the base, let them disagree: features land on
ordinary words, or nothing is found. Where an adapter or a tuned folder brings a tokenizer, its ids are compared with
those that the weights were trained with.""",
    "tokenizer_faithful": """\
The same tokenizer.json is read differently by versions of one library: transformers before 5.23 laid SentencePiece's
rules over byte-level files that were called `LlamaTokenizer`, and grew the vocabulary by every special token that it
did not know. Fixed strings in several languages, and every added token, are encoded by the raw file and by
transformers; both must agree (transformers#45488).""",
    "adapter_applied": """\
PEFT loads with `strict=False`: a tensor of the wrong shape fails, one that no module takes is dropped with a warning.
Shapes are compared with the base's headers before anything is loaded, and afterwards what was not filled and not taken
is listed: both lists must be empty. An adapter that is merged at loading is mounted first, and must answer the same:
merging LoRA into an embedding that the head shares changes the head too.""",
    "extra_tensors": """\
Deleting `modules_to_save` from adapter_config.json is a popular way to make vLLM load an adapter. PEFT then writes the
full tensors over the base's own, without a word: `disable_adapter()` no longer gives the base, and every other adapter
on it changes too. Listing a module whose tensor is missing loses its training.""",
    "finite_weights": """\
A single NaN spreads through every answer; `merge_and_unload()` passes it on silently. float16 overflows to infinity in
models trained in bfloat16. Factors that are zero throughout were saved before training, or by a trainer that never
reached them (ms-swift#1191, unsloth#9326). Decays of linear attention are stored as logarithms; conversions leave the
decays themselves, or these with a minus sign. Every tensor is looked at; of folders larger than 2 GB stretches of every
inner tensor, and the rest of it once the model is loaded.""",
    "adapter_effect": """\
Logits of a fixed question are compared with the adapter and without it. If nothing moves, the adapter was not applied,
whatever its files say: this is the last witness, behind all checks of names and shapes.""",
}
"""Why a check is there, for its page; checks with a module of their own keep it beside their rule."""

CHECKS: tuple[Check, ...] = (
    served_model.CHECK,
    Check("files", "Every file is there, whole and safe to read", of_base=weights.base_files, why=weights.WHY_FILES),
    model_config.CHECK,
    weights_complete.CHECK,
    picture_settings.CHECK,
    minicpmv.CHECK,
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
        "Special and placeholder ids are the same in every file",
        tokens.base_special_ids,
        tokens.adapter_special_ids,
        why=WHY["special_ids"],
    ),
    Check(
        "tokenizer_faithful",
        "The tokenizer reads as its tokenizer.json says",
        tokens.base_tokenizer_faithful,
        tokens.adapter_tokenizer_faithful,
        why=WHY["tokenizer_faithful"],
    ),
    picture_markers.CHECK,
    stop_set.CHECK,
    tokenizer_sound.CHECK,
    tokenizer_unchanged.CHECK,
    token_flags.CHECK,
    chat_template.CHECK,
    origin.CHECK,
    merge.CHECK,
    adapter_keys.CHECK,
    adapter_config.CHECK,
    adapter_lineage.CHECK,
    Check(
        "adapter_applied",
        "Every tensor fits and is applied",
        of_adapter=adapters.adapter_applied,
        takes_foreign=True,
        why=WHY["adapter_applied"],
    ),
    Check(
        "extra_tensors",
        "Full tensors are exactly modules_to_save",
        of_adapter=adapters.adapter_extra_tensors,
        why=WHY["extra_tensors"],
    ),
    saved_modules.CHECK,
    Check(
        "finite_weights",
        "No NaN, no infinity, nothing zero throughout",
        weights.base_finite_weights,
        weights.adapter_finite_weights,
        takes_foreign=True,
        why=WHY["finite_weights"],
    ),
    Check(
        "trained_rows",
        "Tokens in use have trained rows",
        rows.base_trained_rows,
        rows.adapter_trained_rows,
        why=rows.WHY,
    ),
    row_health.CHECK,
    Check(
        "adapter_effect",
        "The adapter changes the answer",
        of_adapter=behaviour.adapter_effect,
        needs_loaded=True,
        why=WHY["adapter_effect"],
    ),
    flat_output.CHECK,
    answer_ends.CHECK,
    picture_effect.CHECK,
    control_text.CHECK,
    quantization.CHECK,
    lock.CHECK,
    other_servers.CHECK,
)
