"""Checks of adapter tensors: is every one applied, does every shape fit, and does the config own up to all of them.

Knows no token.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

from service.audit.check import AdapterView, Outcome, fatal, note, warning
from service.audit.checks.target_parameters import modules_of, named_parameters
from service.audit.targeting import in_untouched_parts
from service.audit.usage import is_tied
from service.domain.factors import (
    EMBEDDING,
    FIRST,
    ROWS,
    SECOND,
    is_of_lora,
    original_of,
    owner_of,
    part_of,
    parts_in,
    rank_of,
)
from service.domain.facts import AdapterFacts, BaseFacts, LoadedAdapterFacts, TensorFacts

TENSORS_KNOWN = frozenset({"", "LORA", "ADALORA", "TRAINABLE_TOKENS"})
WHOLE_NUMBERS = frozenset({"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"})
COMPARABLE = frozenset({"F64", "F32", "F16", "BF16"})
"""Quantised weights are packed into other shapes."""
CONFIG = "adapter_config.json"
REPAIRS = {
    CONFIG: "Copy adapter_config.json from where the adapter was trained. If it is gone: `minicpm-service repair DIR "
    "--base BASE --lora-alpha N` rebuilds it from the tensors; they do not hold N, which the trainer's arguments do.",
    "config.json": "Serve a merged or tuned model as MINICPM_MODEL, and judge it with --base; as an adapter name the "
    "folder with adapter_config.json and adapter_model.safetensors.",
}
"""By the file that is at fault."""
SHOWN = 5
MERGE_TOLERANCE = 1e-3
"""Share of the largest logit: float32 differs by about 1e-6, a part that was not merged by 1e-2 and more."""


def adapter_applied(view: AdapterView) -> Iterator[Outcome]:
    """Check that the folder is readable, that shapes fit the base, and that loading took every tensor."""
    yield from _files_are_readable(view.adapter)
    yield from _shapes_fit(view.base, view.adapter)
    yield from _ranks_fit(view.base, view.adapter)
    if view.loaded:
        yield from _loaded_whole(view.adapter, view.loaded)


def adapter_extra_tensors(view: AdapterView) -> Iterator[Outcome]:
    """Compare the tensors that are not LoRA factors with `modules_to_save`, in both directions."""
    adapter = view.adapter
    if adapter.peft_type not in TENSORS_KNOWN:
        return  # other types name their own tensors otherwise; adapter_applied says that they were not looked at
    unlisted = sorted(key for key in adapter.full if not _is_listed(key, adapter, view.base))
    if copies := [key for key in unlisted if key in adapter.base_copies]:
        unlisted = [key for key in unlisted if key not in copies]
        yield note(
            f"{len(copies)} tensor(s) of the base lie beside the factors, equal to the base's value by value: "
            + ", ".join(copies[:SHOWN]),
            {"tensors": copies[:50], "count": len(copies)},
            "They change nothing: PEFT saves embeddings along where it takes the vocabulary for resized.",
            "Save with save_embedding_layers=False: the file is smaller, and other servers take it.",
        )
    if unlisted:
        yield fatal(
            f"{len(unlisted)} full tensor(s) are not covered by modules_to_save {list(adapter.modules_to_save)}: "
            + ", ".join(unlisted[:SHOWN]),
            {"tensors": unlisted[:50], "modules_to_save": list(adapter.modules_to_save)},
            "PEFT writes them over the base's own weights without a word: elsewhere, all other adapters change too.",
            f'Write "modules_to_save": {sorted({_leaf(key) for key in unlisted})} in adapter_config.json, as it was in '
            "training.",
        )
    unshipped = _unshipped(adapter, view.base.tensors)
    if unshipped and adapter.full.keys() | adapter.lora.keys():
        names = [f"{name} ({tensors[0]})" for name, tensors in unshipped.items()]
        yield fatal(
            f"modules_to_save names {', '.join(names)}, but the file holds no such tensor",
            {"modules_to_save": list(adapter.modules_to_save), "missing": unshipped},
            "Loading fails, or the module keeps the base's weights and the training of it is lost.",
            "Copy the folder again from the training machine; if the tensors were deleted there, retrain.",
        )
    if adapter.foreign_copies:
        yield fatal(
            f"{len(adapter.foreign_copies)} tensor(s) of the base are in the file in another version: "
            + ", ".join(adapter.foreign_copies[:SHOWN]),
            {"tensors": list(adapter.foreign_copies)[:50]},
            "The adapter was trained on another base: its changes do not fit this one's weights.",
            "Serve it on the base that it was trained on.",
        )


def _files_are_readable(adapter: AdapterFacts) -> Iterator[Outcome]:
    for problem in adapter.problems:
        yield fatal(
            f"{problem.file} {problem.problem}",
            {"file": problem.file},
            "The adapter cannot be loaded as it was trained.",
            REPAIRS.get(
                problem.file,
                "Copy the folder again from where it was trained; convert pickle weights to safetensors there.",
            ),
        )
    if not adapter.problems and not adapter.lora and not adapter.full:
        yield fatal(
            "the weights file holds no tensor",
            {},
            "The adapter does nothing.",
            "Save the adapter again; sharded training must gather the weights before saving.",
        )


def _shapes_fit(base: BaseFacts, adapter: AdapterFacts) -> Iterator[Outcome]:
    """Compare shapes wherever the base's file has a tensor of the module's own name."""
    wrong = {}
    for key, tensor in {**adapter.lora, **adapter.full}.items():
        if expected := _expected_shape(key, tensor, base.tensors, adapter):
            wrong[key] = {"shape": list(tensor.shape), "expected": expected}
    if wrong:
        key, first = next(iter(wrong.items()))
        yield fatal(
            f"{len(wrong)} tensor(s) have shapes that do not fit, first {key}: "
            f"{first['shape']}, needed {first['expected']}",
            {"tensors": dict(list(wrong.items())[:50]), "count": len(wrong)},
            "Loading fails with a size mismatch: the adapter belongs to another base, or to a resized one.",
            "Serve it on the base that it was trained on. If training resized the vocabulary, resize the base "
            "first; if shapes are [0] or one-dimensional, gather the sharded weights and save again.",
        )


def _expected_shape(
    key: str, tensor: TensorFacts, base: Mapping[str, TensorFacts], adapter: AdapterFacts
) -> str | None:
    """Say what shape was needed, or None if it fits or cannot be told."""
    if 0 in tensor.shape:
        return "no empty dimension"
    part = part_of(key)
    if tensor.dtype in WHOLE_NUMBERS and (is_of_lora(key) or (part and part.kind == ROWS)):
        return f"floating point instead of {tensor.dtype}"
    if part and part.is_factor:
        weight = base.get(part.module + ".weight")
        if weight is None or len(weight.shape) != 2 or weight.dtype not in COMPARABLE:
            return None
        if len(tensor.shape) != 2:
            return "two dimensions"
        return _expected_factor(part.kind, tensor.shape, weight.shape)
    if part and part.kind == ROWS:
        return _expected_rows(part.module, tensor, base, adapter)
    weight = base.get(original_of(key))
    if weight is None or weight.shape == tensor.shape or weight.dtype not in COMPARABLE:
        return None
    return str(list(weight.shape))


def _expected_factor(kind: str, shape: tuple[int, ...], weight: tuple[int, ...]) -> str | None:
    """Compare one factor with its weight `(out, in)`, or for embeddings `(rows, hidden)`."""
    first, second = weight
    if kind in EMBEDDING:  # embedding_A is (rank, rows), embedding_B is (hidden, rank)
        first, second = second, first
    if kind in FIRST and shape[1] != second:
        return f"[rank, {second}]"
    if kind in SECOND and shape[0] != first:
        return f"[{first}, rank]"
    return None


def _expected_rows(
    module: str, tensor: TensorFacts, base: Mapping[str, TensorFacts], adapter: AdapterFacts
) -> str | None:
    weight = base.get(module + ".weight")
    hidden = weight.shape[1] if weight and len(weight.shape) == 2 else None
    counts = {len(ids) for ids in adapter.trainable_tokens.values()}
    if len(tensor.shape) != 2 or (hidden and tensor.shape[1] != hidden) or (counts and tensor.shape[0] not in counts):
        return f"[{' or '.join(map(str, sorted(counts))) or 'tokens'}, {hidden or 'hidden'}]"
    return None


def _ranks_fit(base: BaseFacts, adapter: AdapterFacts) -> Iterator[Outcome]:
    """Compare the ranks of both factors of every module with each other and with the config."""
    ranks: dict[str, dict[str, int]] = defaultdict(dict)
    for key, part in parts_in(adapter.lora).items():
        shape = adapter.lora[key].shape
        if part.is_factor and len(shape) >= 2 and 0 not in shape:
            ranks[part.module][part.kind] = part.rank_in(shape)
    if unpaired := sorted(module for module, sides in ranks.items() if len(sides) == 1):
        yield fatal(
            f"{len(unpaired)} module(s) have only one of the two LoRA factors: {', '.join(unpaired[:SHOWN])}",
            {"modules": unpaired[:50]},
            "The other factor stays at its initial value: the module's training is lost.",
            "Copy the adapter file again; it is cut off or was saved from a shard.",
        )
    config = adapter.documents.get("adapter_config.json", {})
    is_told = adapter.peft_type == "LORA" and bool(adapter.ranks)
    shapes = (base.blueprint.parameters if base.blueprint else None) or {}
    stacked = modules_of(named_parameters(config, shapes))  # of their ranks adapter_config says more
    if config.get("target_parameters") and not shapes:
        is_told = False
    told = {one: rank_of(config, one) if is_told else None for one in ranks}
    told |= {one: None for one in ranks if owner_of(one) in stacked}
    wrong = {
        module: sorted(set(sides.values()))
        for module, sides in ranks.items()
        if len({*sides.values(), told[module]} - {None}) > 1
    }
    if wrong:
        module, found = next(iter(wrong.items()))
        yield fatal(
            f"{module} has rank {' and '.join(map(str, found))}, adapter_config.json says {told[module] or 'nothing'}",
            {"modules": dict(list(wrong.items())[:50]), "config": {one: told[one] for one in list(wrong)[:50]}},
            "Loading fails with a size mismatch, or the update is scaled wrongly.",
            "Write the rank of the tensors into r or rank_pattern, if the tensors are the trained ones.",
        )


def _loaded_whole(adapter: AdapterFacts, loaded: LoadedAdapterFacts) -> Iterator[Outcome]:
    if loaded.error:
        yield fatal(
            f"it cannot be loaded: {loaded.error}",
            {"error": loaded.error},
            "The adapter cannot be served.",
            "Act on the other findings first; if there are none, the adapter belongs to another base.",
        )
    total = len(adapter.lora) + len(adapter.full)
    for keys, what, consequence in (
        (loaded.unexpected_keys, "no module of the base takes", "What they were trained to do is missing."),
        (
            lost_parameters(adapter, loaded),
            "the file does not hold, though the config asks for",
            "They stay untrained.",
        ),
    ):
        if keys:
            yield fatal(
                f"{len(keys)} tensor(s) that {what} (the file has {total}), first {keys[0]}",
                {"tensors": list(keys)[:50], "count": len(keys), "in_file": total},
                consequence + " Answers are the base's, or between base and adapter.",
                "The module names differ from the base's: load the adapter on the class that it was trained on, or "
                "rename the keys.",
            )
    if loaded.has_changed_base:
        yield fatal(
            "the base's own output changed when the adapter was mounted",
            {},
            "The base and other adapters would answer differently because this adapter is loaded.",
            "Restore modules_to_save in adapter_config.json as it was in training.",
        )
    if loaded.merge_difference is not None and not loaded.merge_difference <= MERGE_TOLERANCE:
        yield fatal(
            f"merged, its logits differ from mounted by {loaded.merge_difference:.2g} of the largest logit in float32; "
            f"rounding explains {MERGE_TOLERANCE:g}",
            {"merge_difference": loaded.merge_difference, "tolerance": MERGE_TOLERANCE},
            "Answers are not those that the adapter was trained to give: merging wrote into a matrix that another part "
            "of the model shares, or this kind of adapter cannot be merged.",
            "Mount it instead: MINICPM_ADAPTERS in place of MINICPM_MERGED_ADAPTER.",
        )
    if not loaded.error and adapter.peft_type not in TENSORS_KNOWN:
        yield warning(
            f"the adapter is of type {adapter.peft_type}, not LoRA",
            {"peft_type": adapter.peft_type},
            "It is served through PEFT; checks written for LoRA tensors did not look at it.",
            "Read the effect probe's result before trusting it.",
        )


def lost_parameters(adapter: AdapterFacts, loaded: LoadedAdapterFacts) -> tuple[str, ...]:
    """Return what the file did not fill, but for factors of parts that were never trained: adapter_config says so."""
    config = adapter.documents.get(CONFIG, {})
    is_untouched = in_untouched_parts(config, loaded.missing_keys, (*adapter.lora, *adapter.full))
    return () if is_untouched else loaded.missing_keys


def _is_listed(key: str, adapter: AdapterFacts, base: BaseFacts) -> bool:
    """Say whether the config accounts for a tensor. With a tie ensured, one of the two matrices stands for both."""
    if any(_lies_in(key, name) for name in adapter.modules_to_save):
        return True
    if adapter.is_bias_trained and key.endswith(".bias"):
        return True
    vocabulary = {one.tensor for one in (base.embedding, base.head) if one} | {"lm_head.weight"}
    is_saved = any(_lies_in(tensor, name) for tensor in vocabulary for name in adapter.modules_to_save)
    return adapter.is_tying_ensured and is_tied(base) and key in vocabulary and is_saved


def _unshipped(adapter: AdapterFacts, base: Mapping[str, TensorFacts]) -> dict[str, list[str]]:
    """Find the tensors of listed modules that the file lacks.

    A name that the base does not have is no loss: lists are shared between models, and after `ensure_weight_tying`
    PEFT lists `embed_tokens` beside `model.embed_tokens`. Names of tensors may differ before a module's own, so only
    the ends are compared.
    """
    missing = {}
    for name in adapter.modules_to_save:
        inner = re.compile(rf"^.*?({re.escape(name)}\..*)$")
        ends = {match[1] for key, one in base.items() if one.dtype in COMPARABLE and (match := inner.match(key))}
        shipped = {match[1] for key in adapter.full if (match := inner.match(key))}
        lost = sorted(ends - shipped)
        if not ends and not shipped and name.endswith("lm_head"):
            lost = ["lm_head.weight"]  # a tied base's file has no tensor of that name, the model has the module
        if lost:
            missing[name] = lost[:SHOWN]
    return missing


def _lies_in(key: str, module: str) -> bool:
    """Say whether a tensor lies in such a module: PEFT matches ends of module names, so `merger` takes `vit_merger`."""
    return f"{module}." in key


def _leaf(key: str) -> str:
    return key.removesuffix(".weight").removesuffix(".bias").rsplit(".", 1)[-1]
