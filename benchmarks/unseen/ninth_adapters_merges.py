"""Broken merges of 4.6, given with what they are said to be made of."""

from pathlib import Path

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import PROCESSOR, merging
from benchmarks.unseen.third_4_6_editing import (
    ADAPTERS,
    BASE,
    Edit,
    Make,
    Tensors,
    all_of,
    copied,
    deltas,
    merge_into,
    on_tensors,
    said_to_merge,
    without_files,
    write_rows,
)


def _merge_of(adapter: str, edit: Edit) -> Make:
    """Make a case of the base, edited, that is said to be its merge with an adapter."""

    def make(parent: Path) -> Bundle:
        model = copied(BASE, parent, f"tuned-{adapter}")
        edit(model)
        return Bundle(model, merged_from=(BASE, ADAPTERS / adapter))

    return make


def _rows_of_tokens(tensors: Tensors) -> None:
    write_rows(tensors)


def _factors_only(tensors: Tensors) -> None:
    merge_into(tensors, deltas(ADAPTERS / "official"))


CASES: tuple[Case, ...] = (
    Case(
        "several_adapters_merged_at_once",
        said_to_merge(all_of(merging(ADAPTERS / "tokens"), merging(ADAPTERS / "official"))),
        "Adapters that were each trained on the base for a part of the data were all merged into it; each is fine "
        "alone, together they answer garbage (hiyouga/LlamaFactory#4421).",
        ("layers.", "q_proj", "gate_proj", "in_proj", "lm_head"),
    ),
    Case(
        "merged_and_then_given_the_base_tokenizer",
        _merge_of("tokens", all_of(on_tensors(_rows_of_tokens), merging(ADAPTERS / "tokens"))),
        "After the merge somebody copied the base's tokenizer files over, as threads advise; the ids of the new tokens "
        "have no token any more and all markup is gone (modelscope/ms-swift#3502).",
        ("<fig>", "<col>", "761", "tokenizer"),
    ),
    Case(
        "export_left_the_processor_behind",
        said_to_merge(without_files(PROCESSOR)),
        "The export wrote weights and tokenizer but not the settings of the picture processing, so that it cannot be "
        "served with pictures, or cuts them by other defaults (hiyouga/LlamaFactory#5749).",
        ("processor_config", "preprocessor", "image_processor"),
    ),
    Case(
        "merge_that_left_the_saved_modules_out",
        _merge_of("official", on_tensors(_factors_only)),
        "A merge script of one's own adds every B times A and never looks at the whole copies in the file: embeddings "
        "and merger stay the base's (OpenBMB/MiniCPM-V#243).",
        ("embed_tokens", "merger"),
    ),
    Case(
        "merged_by_alpha_without_the_rank",
        said_to_merge(merging(ADAPTERS / "json", 8.0), BASE),
        "The tool that merged multiplies by alpha and forgets to divide by the rank, so that the update is eight times "
        "too strong and answers are garbage (Blaizzy/mlx-vlm#841).",
        ("scale", "alpha", "rank", "q_proj", "gate_proj", "in_proj"),
    ),
)
"""Cases of merged models over the base of 4.6."""
