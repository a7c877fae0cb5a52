"""Checks that the files hold what the model's class asks for: every parameter, in its shape, nothing trained beside.

Knows no value; the class's wishes are facts.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from service.audit.check import BaseView, Check, Outcome, fatal, note
from service.audit.settings_diff import image_settings
from service.domain.facts import BaseFacts, BlueprintFacts
from service.domain.minicpmv import MODEL_TYPE

SHOWN = 5
HEADS = ("lm_head.weight", "embed_out.weight", "output_projection.weight")
"""Whether an output matrix must be stored is `tied_embeddings`' matter."""
TABLES = re.compile(r"(inv_freq|position_ids|masked_bias|\.attn\.bias|num_batches_tracked|rotary_emb\.\w+)$")
"""Tables that older libraries saved and that are computed anew."""
LEFT_BEHIND = re.compile(
    r"\.(lora_|base_layer\.|modules_to_save\.|original_module\.|trainable_tokens_)|base_model\.model\."
)
NUMBERED = re.compile(r"^(?P<stem>.*?\b(?:layers|blocks|h|experts))\.(?P<number>\d+)\.")
TOWER = re.compile(r"(^|\.)(vision_tower|vision_model|visual|vpm|resampler|merger|multi_modal_projector)\.")
"""What only a model that sees pictures has."""
QUERY = "resampler.query"
"""Of MiniCPM-V 2.6 to 4.5, with a row for each of `query_num` features."""
REFUSED = "Loading is refused: nothing of this family is filled with random numbers."
RESTORE = (
    "Fill in what was never tuned from the folder that this one was tuned from: minicpm-service repair MODEL --base "
    "BASE; save the rest again whole, with the class that it was trained with."
)
NOISE = "Whatever is missing is filled with random numbers: answers are noise, or pictures are not seen."


def base_weights_complete(view: BaseView) -> Iterator[Outcome]:
    """Compare the class's parameters with the files; what loading found is told only where the files did not."""
    base, blueprint = view.base, view.base.blueprint
    found = list(_in_files(base, blueprint)) if blueprint and base.tensors and not _is_told(base) else []
    yield from found
    if view.loaded and not any(one.evidence.get("tensors") for one in found):
        yield from _once_loaded(view.loaded.missing_tensors, view.loaded.unexpected_tensors)


def _in_files(base: BaseFacts, blueprint: BlueprintFacts) -> Iterator[Outcome]:
    missing = [one for one in blueprint.missing if not one.endswith(HEADS)]
    misshapen = {name: one for name, one in blueprint.misshapen.items() if not _is_resized(name, base, one)}
    if missing:
        yield _missing(missing, blueprint, base)
    if misshapen:
        yield _misshapen(misshapen, base)
    yield from _unused(blueprint, base, is_explained=bool(missing))
    if not missing:
        yield from _blind(base, blueprint)


def _is_told(base: BaseFacts) -> bool:
    """Say whether `files` already names weight files that cannot be read, so that tensors must be missing."""
    return any(one.file.endswith((".safetensors", ".safetensors.index.json")) for one in base.problems)


def _is_resized(name: str, base: BaseFacts, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> bool:
    """Say whether only the rows of a vocabulary matrix differ, which `config_rows` says."""
    stored, needed = shapes
    matrices = [one.tensor for one in (base.embedding, base.head) if one]
    return name in matrices or (name.endswith(HEADS) and stored[1:] == needed[1:])


def _missing(missing: list[str], blueprint: BlueprintFacts, base: BaseFacts) -> Outcome:
    groups = _grouped(missing)
    shown = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in list(groups.items())[:SHOWN])
    beside = f"; {len(blueprint.unused)} tensor(s) have names that it does not take" if blueprint.unused else ""
    return fatal(
        f"{len(missing)} parameter(s) that {blueprint.classes[0]} needs are in no file: {shown}{beside}",
        {"tensors": missing[:50], "count": len(missing), "unused": list(blueprint.unused[:20])},
        REFUSED if base.model_type == MODEL_TYPE else NOISE,
        f"{RESTORE} If config.json asks for more layers than were trained, correct it.",
    )


def _misshapen(misshapen: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]], base: BaseFacts) -> Outcome:
    name, (stored, needed) = next(iter(misshapen.items()))
    evidence = {key: {"stored": list(one[0]), "needed": list(one[1])} for key, one in list(misshapen.items())[:50]}
    return fatal(
        f"{len(misshapen)} tensor(s) have other shapes than config.json asks for, first {name}: stored "
        f"{list(stored)}, needed {list(needed)}",
        {"tensors": evidence, "count": len(misshapen)},
        REFUSED if base.model_type == MODEL_TYPE else "Loading fails, or these weights are made up at random.",
        _reshape(misshapen, base),
    )


def _reshape(misshapen: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]], base: BaseFacts) -> str:
    """Say what is to be corrected; of the number of queries, only what two of three places agree on."""
    if set(misshapen) != {QUERY}:
        return "Copy config.json from the base model that was tuned, or save the weights again with it."
    rows = next(iter(misshapen[QUERY][0]), 0)
    if base.documents.get("preprocessor_config.json", {}).get("image_feature_size", 64) == rows:
        return f'Write "query_num": {rows} into config.json, as tensor and processor have it: minicpm-service repair.'
    return (
        f"Copy {QUERY}, if rows of it were lost, or else config.json and preprocessor_config.json from the folder that "
        "this one was tuned from: nothing here proves which of them is right."
    )


def unused_parts(blueprint: BlueprintFacts, stored: Mapping[str, Any]) -> tuple[list[str], list[str], list[str]]:
    """Part tensors that the model does not take: of an adapter, of the model's own modules, of neither."""
    unused = [one for one in blueprint.unused if not TABLES.search(one)]
    used = stored.keys() - set(blueprint.unused)
    left = [one for one in unused if LEFT_BEHIND.search(one)]
    modules = {one.rpartition(".")[0] for one in used}
    stems = {match["stem"] for one in used if (match := NUMBERED.match(one))}
    idle = [one for one in unused if one not in left and _belongs(one, modules, stems)]
    return left, idle, [one for one in unused if one not in left and one not in idle]


def _unused(blueprint: BlueprintFacts, base: BaseFacts, *, is_explained: bool) -> Iterator[Outcome]:
    """Tell trained tensors that the model leaves aside from those that never belonged to it."""
    left, idle, rest = unused_parts(blueprint, base.tensors)
    if left:
        yield fatal(
            f"{len(left)} tensor(s) belong to an adapter that was not merged, first {left[0]}",
            {"tensors": left[:50], "count": len(left)},
            "The adapter's training is in the folder and not in the model: answers are the base's.",
            "Merge the adapter (merge_and_unload) before saving, or serve it beside its base as an adapter.",
        )
    if idle and not is_explained:
        yield _idle(idle, blueprint)
    if rest and not is_explained and base.model_type != MODEL_TYPE:  # `minicpmv` judges these
        yield note(
            f"{len(rest)} tensor(s) of the files belong to no part of the model: {', '.join(_grouped(rest))[:300]}",
            {"tensors": rest[:50], "count": len(rest)},
            "They are not loaded. If they were trained, their training is lost.",
        )


def _blind(base: BaseFacts, blueprint: BlueprintFacts) -> Iterator[Outcome]:
    """A processor for pictures, and a tower in the files, ask for a class that has one."""
    tower = [one for one in blueprint.unused if TOWER.search(one)]
    if not tower or not image_settings(base.documents) or any(TOWER.search(one) for one in blueprint.parameters):
        return
    yield fatal(
        f"config.json makes {blueprint.classes[0]} of the folder, which sees no pictures, but {len(tower)} tensor(s) "
        f"are of a tower, first {tower[0]}",
        {"tensors": tower[:50], "count": len(tower), "model_type": base.model_type},
        "The tower is left aside: pictures are refused, or their placeholders are read as text.",
        "Copy config.json from the base model. If only text is served, delete the tower's tensors and the processor's "
        "files.",
    )


def _idle(idle: list[str], blueprint: BlueprintFacts) -> Outcome:
    groups = _grouped(idle)
    shown = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in list(groups.items())[:SHOWN])
    return fatal(
        f"{len(idle)} tensor(s) of the files are left aside, though they belong to the model: {shown}",
        {"tensors": idle[:50], "count": len(idle), "class": blueprint.classes[0] if blueprint.classes else None},
        "The model runs without layers or biases that it was trained with: answers are wrong.",
        "Copy config.json from the base model: it asks for fewer layers, no biases, or another kind of model.",
    )


def _belongs(name: str, modules: set[str], stems: set[str]) -> bool:
    """Say whether a tensor is of a module, or one of several like layers, of which the model uses others."""
    match = NUMBERED.match(name)
    return name.rpartition(".")[0] in modules or (match is not None and match["stem"] in stems)


def _grouped(names: list[str]) -> dict[str, int]:
    """Count names by what is left of them with `*` for every number."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[re.sub(r"\.\d+\.", ".*.", name)].append(name)
    return {pattern if len(found) > 1 else found[0]: len(found) for pattern, found in groups.items()}


def _once_loaded(missing: tuple[str, ...], unexpected: tuple[str, ...]) -> Iterator[Outcome]:
    if missing:
        yield fatal(
            f"{len(missing)} weight(s) are in no file and were made up at random: {', '.join(missing[:SHOWN])}",
            {"tensors": list(missing)[:50], "count": len(missing)},
            "Parts of the model are untrained: answers are noise.",
            "Save the model again whole, or copy the missing shards.",
        )
    if unexpected:
        yield note(
            f"{len(unexpected)} tensor(s) of the files are not used: {', '.join(unexpected[:SHOWN])}",
            {"tensors": list(unexpected)[:50], "count": len(unexpected)},
            "If they were trained, their training is lost.",
        )


CHECK = Check(
    "weights_complete",
    "Every parameter of the model is in a file, in its shape",
    of_base=base_weights_complete,
    why="""\
A model class decides from `config.json` which parameters it has. What no file holds, the library fills with random
numbers and says so in one log line; what the files hold beyond that, it leaves aside. Both happen after exports
that drop a part of the model (a vision tower that was frozen, the merger, the last norm, the head), after a shard
was forgotten, when layers were renamed, when `config.json` comes from another size of the model, and when a folder
was saved from inside PEFT with its `lora_A` and `base_layer` names.

The audit builds the class without memory for its weights (PyTorch's `meta` device) and lets transformers itself
match names, renames and ties, so that what it finds is what loading would find. For MiniCPM-V 2.6, 4.0 and 4.5,
which transformers has no class for, the list of the official checkpoints is used, and where a tensor is missing this
service refuses to load. Tables that older libraries
saved, such as `inv_freq`, and tensors of parts that the class never had, such as multi-token prediction, are no
finding.

Where training wrapped the language model alone, `config.json` is often its own: the class loads and answers, and the
tower beside it is never read. With a processor for pictures in the folder that is a fault.

Source: transformers 5.23, `PreTrainedModel.from_pretrained`; MiniCPM-V#1004, LLaMA-Factory#6973, ms-swift#9187.""",
)
