"""Checks of files that can be read, and of values: NaN, infinity, tensors that are zero throughout.

Knows no shapes and no names beyond what evidence needs.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from statistics import median

from service.audit.check import AdapterView, BaseView, Outcome, fatal, warning
from service.audit.checks.adapter_values import (
    factors_are_there,
    factors_are_whole,
    layers_are_distinct,
    layers_are_trained,
    vocabulary_is_trained,
    whole_modules_are_sound,
)
from service.domain.factors import is_magnitude, parts_in
from service.domain.facts import BaseFacts, BlueprintFacts, FileProblem, MagnitudeFacts, ValueFacts
from service.domain.minicpmv import LEFT_OUT

SHOWN = 5
LAYER = re.compile(r"\.\d+\.")
LAST = re.compile(r"(o_proj|out_proj|down_proj|fc2|linear_2|w2)\.weight$")
"""What writes a layer's result beside the one before."""
CONNECTOR = re.compile(r"(^|\.)(merger\.mlp|resampler|multi_modal_projector)\.")
"""What carries pictures into the language model, with nothing beside it."""
MIN_MODULES = 3
UNLIKE, APART = 0.3, 1.1
"""Correlation and factor: of sound DoRA adapters at least 0.86 and about 1.02, of magnitudes of a fresh layer 0."""
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
VOCABULARIES = ("tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
"""Files of slow tokenizers, which load without tokenizer.json."""
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_FILES = (ADAPTER_CONFIG, "adapter_model.safetensors", "adapter_model.bin")
FETCH = "Run git lfs pull in the clone, or download the file with the hub's own client."
RESTORE = "Copy the file again from the source; convert pickle weights to safetensors where they were made."
NAN_SPREADS = "NaN spreads through the whole answer."
EARLIER_CHECKPOINT = "Use an earlier checkpoint; train in bfloat16 rather than float16."
WHY_FILES = """\
Uploads break off, indexes name shards that nobody copied, exports write pickle only, and text files are edited into
something that no parser reads. Such a folder fails while it is loaded, after minutes; or worse, one shard of two
versions is read and the other is not.

Every JSON file is parsed within bounds of size and depth, every safetensors header is checked (overlapping or
truncated data, headers beyond 32 MB), and pickle files are never opened. Tensors that two shards hold must be the
same bytes, and shards beside a whole `model.safetensors` must hold its values: saving a merged model into the folder
of its base leaves both, and which is read depends on the library. An adapter's files in the folder of a whole model,
which a merge leaves that is saved where the adapter was, are mounted on the weights by loading (peft#1381). Links are
followed, as hub caches are made of them; pipes, devices and folders in the place of a file count as missing."""


def base_files(view: BaseView) -> Iterator[Outcome]:
    """Check that every file that the model needs is there, whole and safe."""
    has_vocabulary = any(one in view.base.files for one in VOCABULARIES)
    for problem in sorted(view.base.problems, key=lambda one: one.file != "config.json"):
        if _is_of_config(problem, view.base.blueprint):
            continue
        if problem.file == "tokenizer.json" and "is missing" in problem.problem and has_vocabulary:
            severity, consequence = warning, "Ids cannot be compared with rows; a slow tokenizer may still load."
            repair = RESTORE
        elif problem.file in PROCESSOR_FILES:
            severity, consequence = fatal, "The processor cannot start, so no picture can be read and loading fails."
            repair = "Copy processor_config.json or preprocessor_config.json, whichever it has, from the base model."
        else:
            severity, consequence = fatal, "The model cannot be loaded as it was saved."
            repair = _restore(problem)
        yield severity(
            f"{problem.file} {problem.problem}",
            {"file": problem.file},
            consequence,
            FETCH if "Git LFS" in problem.problem else repair,
        )
    if rivals := view.base.rivals:
        yield fatal(
            f"model.safetensors and the shards of model.safetensors.index.json hold other values for {len(rivals)} "
            f"tensor(s), first {rivals[0]}",
            {"tensors": list(rivals[:50]), "count": len(rivals)},
            "transformers reads the one file, other servers the shards: one of them answers from an older save.",
            "Save the model into an empty folder, or delete whichever of the two is older; if it is the shards, their "
            "index too.",
        )
    yield from _adapter_beside(view.base)


def _adapter_beside(base: BaseFacts) -> Iterator[Outcome]:
    """An adapter in the folder of a whole model is mounted by loading, under the base's name.

    Of a folder without config.json the missing file is said.
    """
    if ADAPTER_CONFIG not in base.files or "config.json" not in base.files:
        return
    beside = [one for one in ADAPTER_FILES if one in base.files]
    yield fatal(
        f"the model's folder holds the files of an adapter: {', '.join(beside)}",
        {"files": beside},
        "transformers mounts it on the weights beside it: if it is merged into them, it counts twice; if not, base "
        "requests are answered by an adapter that nobody checked.",
        f"If the model is the adapter's merge, delete {' and '.join(beside)}; otherwise move them into a folder of "
        "their own and name it as an adapter.",
    )


def _restore(problem: FileProblem) -> str:
    if problem.file != "config.json" or "is missing" not in problem.problem:
        return RESTORE
    if "adapter" in problem.problem:
        return "Name the model that the adapter was trained on as the model, and this folder as an adapter."
    return "Copy config.json from the model that this one was tuned from: minicpm-service repair --base BASE."


def _is_of_config(problem: FileProblem, blueprint: BlueprintFacts | None) -> bool:
    """Say whether a tokenizer fails because of config.json, which it also reads; `model_config` says that."""
    reason = problem.problem.partition(": ")[2] if problem.file != "config.json" else ""
    return bool(blueprint and blueprint.problem and reason and reason in blueprint.problem)


def base_finite_weights(view: BaseView) -> Iterator[Outcome]:
    """Look for NaN, infinity and zero matrices in the base."""
    for matrix in (view.base.embedding, view.base.head):
        if matrix and (matrix.values.num_nonfinite or matrix.values.is_all_zero):
            yield _broken_values(matrix.tensor, matrix.values.num_nonfinite, matrix.values.num_values)
    inner = view.base.inner
    yield from _not_finite(inner.nonfinite)
    yield from _zero_throughout(view.base, view.origin.changed if view.origin else ())
    if view.loaded:
        known = {matrix.tensor for matrix in (view.base.embedding, view.base.head) if matrix}
        if not inner.nonfinite:  # a name in memory may be another than in the file
            yield from _not_finite([one for one in view.loaded.nonfinite if one not in known])
        if not view.loaded.is_output_finite:
            yield fatal(
                "the probe's logits hold NaN or infinity",
                {},
                "Every answer is the same token repeated, or fails.",
                "Load in bfloat16 or float32: float16 overflows in models that were trained in bfloat16.",
            )


def _not_finite(names: Sequence[str]) -> Iterator[Outcome]:
    if names:
        yield fatal(
            f"{len(names)} tensor(s) hold NaN or infinity: {', '.join(names[:SHOWN])}",
            {"tensors": list(names[:50]), "count": len(names)},
            NAN_SPREADS,
            EARLIER_CHECKPOINT,
        )


def _zero_throughout(base: BaseFacts, changed: Collection[str]) -> Iterator[Outcome]:
    """Matrices of zeros: certain to be wrong where the same matrix of another layer is none.

    Tools that deepen a model add layers whose last matrices, behind attention and behind the rest, are zero: they
    change nothing until they are trained. One of the two alone was lost.
    What connects the tower and the language model stands beside nothing: zeros there hide every picture.
    """
    zero = [name for name in base.inner.all_zero if name.endswith(".weight") and len(base.tensors[name].shape) >= 2]
    zero = [name for name in zero if name not in changed and not LEFT_OUT.match(name)]  # origin says so
    if not zero:
        return
    kinds = Counter(LAYER.sub(".*.", name) for name in base.tensors)
    empty = Counter(LAYER.sub(".*.", name) for name in zero)
    odd = [name for name in zero if not LAST.search(name) and empty[kind := LAYER.sub(".*.", name)] < kinds[kind]]
    odd = [name for name in zero if name in odd or CONNECTOR.search(name) or _is_lone_last(name, zero, base)]
    severity = fatal if odd else warning
    first = odd or zero
    yield severity(
        f"{len(zero)} matrices are zero throughout: {', '.join(first[:SHOWN])}",
        {"tensors": zero[:50], "count": len(zero)},
        "They pass nothing on: whatever they were trained for is missing from answers.",
        "Compare with the base model's file; sharded training must gather the weights before saving.",
    )


def _is_lone_last(name: str, zero: Collection[str], base: BaseFacts) -> bool:
    """Say whether a tensor is one of the last matrices of a layer, and another of these is not zero."""
    layer = LAYER.search(name)
    if layer is None or not LAST.search(name):
        return False
    return any(one.startswith(name[: layer.end()]) and LAST.search(one) and one not in zero for one in base.tensors)


def _magnitudes_are_lengths(values: Mapping[str, ValueFacts]) -> Iterator[Outcome]:
    """Magnitudes begin as the lengths of a weight's rows, of which no two are the same."""
    magnitudes = {name: one for name, one in values.items() if is_magnitude(name) and one.num_values > 1}
    even = [name for name, one in magnitudes.items() if one.smallest == one.largest > 0 and not one.num_nonfinite]
    if even:
        yield fatal(
            f"{len(even)} of {len(magnitudes)} of DoRA's magnitudes are one value throughout, such as {even[0]}: "
            f"{magnitudes[even[0]].largest:g}",
            {"tensors": even[:50], "count": len(even)},
            "They stand for the lengths of the weight's rows, which they replace: modules with them answer noise.",
            "They were set up before the base was loaded: train again on the loaded base.",
        )


def _magnitudes_are_the_base_s(found: Mapping[str, MagnitudeFacts]) -> Iterator[Outcome]:
    """Training moves magnitudes by a few per cent: they go with the lengths of the rows that they began as."""
    if len(found) < MIN_MODULES:
        return
    likeness = median(one.likeness for one in found.values())
    factor = median(one.factor for one in found.values())
    if likeness < UNLIKE and factor > APART:
        first, one = next(iter(found.items()))
        yield fatal(
            f"DoRA's magnitudes have nothing to do with the lengths of the base's rows: a median correlation of "
            f"{likeness:.2f} over {len(found)} modules, first {first}, whose middle row is off by a factor of "
            f"{one.factor:.2f}",
            {"likeness": {module: round(one.likeness, 4) for module, one in found.items()}, "limit": UNLIKE},
            "Each row is stretched to a length that it never had: modules with them answer noise.",
            "They were computed from another layer than the base's, such as a fresh one: train on the loaded base.",
        )


def adapter_finite_weights(view: AdapterView) -> Iterator[Outcome]:
    """Look for NaN and infinity in the adapter, and for factors that were never trained."""
    values = view.adapter.values
    if broken := [name for name, one in values.items() if one.num_nonfinite]:
        first = values[broken[0]]
        yield fatal(
            f"{len(broken)} tensor(s) hold NaN or infinity, first {broken[0]} "
            f"({first.num_nonfinite} of {first.num_values} values)",
            {"tensors": broken[:50], "count": len(broken)},
            NAN_SPREADS,
            EARLIER_CHECKPOINT,
        )
    parts = parts_in(values)
    others = [name for name, part in parts.items() if part.is_factor and not part.is_zero_at_first]
    if others and all(values[name].is_all_zero for name in others):
        yield fatal(
            f"all {len(others)} LoRA factors that start at random are zero, such as {others[0]}",
            {"tensors": others[:50], "count": len(others)},
            "The LoRA part of the adapter changes nothing: its tensors were lost when it was saved.",
            "Copy the adapter again from where it was trained; sharded training must gather the weights before saving.",
        )
    if empty := [name for name, one in values.items() if is_magnitude(name) and one.is_all_zero]:
        yield fatal(
            f"{len(empty)} of DoRA's magnitudes are zero throughout, such as {empty[0]}",
            {"tensors": empty[:50], "count": len(empty)},
            "They are the lengths of the rows of whole matrices: with the adapter these pass nothing on.",
            "Copy the adapter again from where it was trained; sharded training must gather the weights before saving.",
        )
    yield from _magnitudes_are_lengths(values)
    yield from _magnitudes_are_the_base_s(view.adapter.magnitudes)
    yield from vocabulary_is_trained(view)
    yield from layers_are_distinct(view.adapter)
    holes = list(factors_are_there(view.adapter))
    yield from holes
    yield from factors_are_whole(view.adapter)
    yield from whole_modules_are_sound(view)
    factors = [name for name, part in parts.items() if part.is_zero_at_first]
    idle = [name for name in factors if values[name].is_all_zero]
    if factors and len(idle) == len(factors):
        yield fatal(
            f"all {len(idle)} LoRA factors that training moves away from zero are zero, such as {idle[0]}",
            {"tensors": idle[:50], "count": len(idle)},
            "The LoRA part of the adapter changes nothing: it was saved before training or never trained.",
            "Save a later checkpoint, or retrain with a learning rate that moves the weights.",
        )
    elif not holes:
        yield from layers_are_trained(factors, idle)
    is_broken = view.loaded and not (view.loaded.is_output_finite and math.isfinite(view.loaded.effect))
    if view.loaded and is_broken and not view.loaded.error:
        yield fatal(
            "the probe's logits with the adapter hold NaN or infinity",
            {},
            "Every answer is the same token repeated, or fails.",
            "Serve an earlier checkpoint of the adapter, or retrain in bfloat16.",
        )


def _broken_values(name: str, num_nonfinite: int, num_values: int) -> Outcome:
    if num_nonfinite == 0:
        return fatal(
            f"{name} is zero throughout",
            {"tensor": name},
            "The model reads nothing, or every token is equally likely.",
            "Save the model again; sharded training must gather the weights before saving.",
        )
    return fatal(
        f"{name} holds NaN or infinity ({num_nonfinite} of {num_values} values)",
        {"tensor": name, "nonfinite": num_nonfinite, "values": num_values},
        NAN_SPREADS,
        EARLIER_CHECKPOINT,
    )
