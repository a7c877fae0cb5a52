"""Check of a tuned folder against the one that it was made from.

Knows no token; the checks of tokenizer, template and rows compare those.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from service.audit.check import BaseView, Check, Outcome, fatal, warning
from service.domain.facts import OriginFacts

MAX_TURN = 0.5
"""Tuning turns a weight matrix by far less: full fine-tuning by 0.01, a retrained connector by 0.2."""
SHOWN = 5
FREE = (
    *("_", "transformers_version", "dtype", "torch_dtype", "use_cache", "architectures", "auto_map", "id2label"),
    *("label2id", "tie_word_embeddings", "vocab_size", "pad_token_id", "quantization_config", "problem_type"),
    *("output_attentions", "output_hidden_states", "return_dict", "chunk_size_feed_forward", "attn_implementation"),
)
"""Fields that change nothing, or that other checks compare."""
FREE_PARTS = ("dropout", "initializer", "token_id", "_id", "gradient", "pretraining_tp", "max_window_layers")
MILD = ("max_position_embeddings", "model_max_length")
WHY = """\
What a folder was tuned from is the best witness of what it should be. Every tensor, setting and file of the origin must
be there; tuning moves weights, but by little. A tensor that points elsewhere was replaced by noise or comes from
another model; a folder in which nothing differs was saved from the instance without the adapter (MiniCPM-V#559,
LLaMA-Factory#8134); a changed `rope_theta` or `rms_norm_eps` turns the same weights into another model. Settings are
compared as transformers reads them, so that another spelling of the same value is no difference."""


def base_origin(view: BaseView) -> Iterator[Outcome]:
    """Compare tensors, settings and rows with the origin's."""
    origin = view.origin
    if origin is None:
        return
    if origin.base.embedding is None and not origin.base.tensors:
        yield warning(
            "the origin's weights cannot be read, so tensors were not compared",
            {"problems": [f"{one.file} {one.problem}" for one in origin.base.problems][:SHOWN]},
            "What tuning changed or lost in the weights would not have been seen.",
            "Name a complete folder as --base.",
        )
        return
    is_head_tied = view.base.head is None and view.base.is_tied is not False
    missing = [one for one in origin.missing if not (is_head_tied and one.endswith("lm_head.weight"))]
    asked = set(view.base.blueprint.missing) if view.base.blueprint else set()
    if lost := [one for one in missing if one not in asked]:
        yield fatal(
            f"{len(lost)} tensor(s) of the origin are missing: {', '.join(lost[:SHOWN])}",
            {"tensors": lost[:50], "count": len(lost)},
            "What they were trained for is gone: a part of the model was not exported.",
            "Copy them from the origin: minicpm-service repair --base.",
        )
    yield from _weights_are_related(view, origin)
    yield from _rows_point_the_same_way(origin)
    yield from _settings_are_kept(view, origin)


def _weights_are_related(view: BaseView, origin: OriginFacts) -> Iterator[Outcome]:
    if not origin.changed and not origin.reshaped and not origin.missing and not origin.extra:
        if view.merge is None:
            yield warning(
                f"all {origin.num_equal} tensors are the origin's: nothing was tuned, or its result was not saved",
                {"equal": origin.num_equal},
                "Every answer is the origin's.",
                "Merge again from the instance that holds the adapter: minicpm-service merge BASE ADAPTER.",
            )
        return
    matrices = {name: change for name, change in origin.changed.items() if len(view.base.tensors[name].shape) >= 2}
    strange = {name: round(change.turn, 3) for name, change in matrices.items() if change.turn > MAX_TURN}
    if strange:
        name, turn = next(iter(strange.items()))
        yield fatal(
            f"{len(strange)} of {len(matrices)} changed matrices point elsewhere than the origin's, first {name}: "
            f"cosine {1 - turn:.2f}",
            {"tensors": dict(list(strange.items())[:50]), "count": len(strange), "limit": MAX_TURN},
            "They are noise, or belong to another model: tuning does not move weights that far.",
            "Compare with the folder that training started from; if it is this one, save the model again.",
        )


def _rows_point_the_same_way(origin: OriginFacts) -> Iterator[Outcome]:
    for which, turns in (("input", origin.embedding_turns), ("output", origin.head_turns)):
        matrix = origin.base.embedding if which == "input" else origin.base.head
        is_bulk_strange = (
            matrix is not None and matrix.tensor in origin.changed and (origin.changed[matrix.tensor].turn > MAX_TURN)
        )
        flipped = {one: round(turn, 2) for one, turn in turns.items() if turn > 1}
        if flipped and not is_bulk_strange:
            names = (
                {one.token_id: text for text, one in origin.base.tokenizer.added.items()}
                if origin.base.tokenizer
                else {}
            )
            token_id = next(iter(flipped))
            yield fatal(
                f"{len(flipped)} {which} row(s) of tokens in use point away from the origin's, first "
                f"{names.get(token_id, 'id')} (id {token_id}): cosine {1 - flipped[token_id]:.2f}",
                {"rows": {str(one): turn for one, turn in list(flipped.items())[:50]}, "matrix": which},
                "The model reads or writes the token as its opposite.",
                "Restore the rows from the origin, or retrain them.",
            )


def _settings_are_kept(view: BaseView, origin: OriginFacts) -> Iterator[Outcome]:
    new, old = view.base.blueprint, origin.base.blueprint
    if new is None or old is None or new.problem or old.problem:
        return
    changed = dict(_differences(new.config, old.config))
    hard = {name: values for name, values in changed.items() if name.rpartition(".")[2] not in MILD}
    for found, severity in ((hard, fatal), ({name: one for name, one in changed.items() if name not in hard}, warning)):
        if found:
            name, values = next(iter(found.items()))
            yield severity(
                f"{len(found)} setting(s) of config.json differ from the origin's, first {name}: {values['found']} "
                f"instead of {values['expected']}",
                {"settings": dict(list(found.items())[:50])},
                "The same weights make another model: answers are garbage or quietly worse.",
                "Restore them from the origin's config.json: minicpm-service repair --base.",
            )


def _differences(
    new: Mapping[str, Any], old: Mapping[str, Any], path: str = ""
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in old.items():
        if name.startswith(FREE) or any(part in name for part in FREE_PARTS):
            continue
        other = new.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            yield from _differences(other, value, f"{path}{name}.")
        elif other != value:
            yield f"{path}{name}", {"found": other, "expected": value}


CHECK = Check("origin", "What the folder was tuned from is still in it", base_origin, needs_origin=True, why=WHY)
