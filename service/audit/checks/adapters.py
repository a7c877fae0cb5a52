"""Checks of adapter tensors: is every one applied, does every shape fit, and does the config own up to all of them.

Knows no token.
"""

import re
from collections.abc import Iterator, Mapping

from service.audit.check import AdapterView, Outcome, fatal, warning
from service.domain.facts import AdapterFacts, BaseFacts, LoadedAdapterFacts, TensorFacts

LORA_WEIGHT = re.compile(r"^(?P<module>.+)\.lora_(?P<side>[AB])(\.[^.]+)?\.weight$")
SHOWN = 5


def adapter_applied(view: AdapterView) -> Iterator[Outcome]:
    """Check that the folder is readable, that shapes fit the base, and that loading took every tensor."""
    yield from _files_are_readable(view.adapter)
    yield from _shapes_fit(view.base, view.adapter)
    if view.loaded:
        yield from _loaded_whole(view.adapter, view.loaded)


def adapter_extra_tensors(view: AdapterView) -> Iterator[Outcome]:
    """Compare the tensors that are not LoRA factors with `modules_to_save`, in both directions."""
    adapter = view.adapter
    unlisted = sorted(key for key in adapter.full if not _is_listed(key, adapter))
    if unlisted:
        modules = sorted({_leaf(key) for key in unlisted})
        yield fatal(
            f"{len(unlisted)} full tensor(s) are not covered by modules_to_save {list(adapter.modules_to_save)}: "
            + ", ".join(unlisted[:SHOWN]),
            {"tensors": unlisted[:50], "modules_to_save": list(adapter.modules_to_save)},
            "PEFT writes them over the base's own weights without a word: the base and every other adapter change.",
            f'Write "modules_to_save": {modules} in adapter_config.json, as it was in training.',
        )
    unshipped = sorted(name for name in adapter.modules_to_save if not any(_names(key, name) for key in adapter.full))
    # PEFT lists both `embed_tokens` and `model.embed_tokens` after `ensure_weight_tying`; one of them is enough.
    unshipped = [name for name in unshipped if not any(other.endswith("." + name) for other in adapter.modules_to_save)]
    if unshipped and adapter.full.keys() | adapter.lora.keys():
        yield fatal(
            f"modules_to_save names {', '.join(unshipped)}, but the file holds no such tensor",
            {"modules_to_save": list(adapter.modules_to_save), "missing": unshipped},
            "Loading fails, or the module keeps the base's weights and the training of it is lost.",
            "Copy the folder again from the training machine; if the tensors were deleted there, retrain.",
        )


def _files_are_readable(adapter: AdapterFacts) -> Iterator[Outcome]:
    for problem in adapter.problems:
        yield fatal(
            f"{problem.file} {problem.problem}",
            {"file": problem.file},
            "The adapter cannot be loaded as it was trained.",
            "Copy the folder again from where it was trained; convert pickle weights to safetensors there.",
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
    for key, tensor in {**adapter.lora, **adapter.full}.items():
        if expected := _expected_shape(key, tensor, base.tensors):
            yield fatal(
                f"{key} has shape {list(tensor.shape)}, the base needs {expected}",
                {"tensor": key, "shape": list(tensor.shape), "expected": expected},
                "Loading fails with a size mismatch: the adapter belongs to another base, or to a resized one.",
                "Serve it on the base that it was trained on. If training resized the vocabulary, resize the base "
                "first; if shapes are [0] or one-dimensional, gather the sharded weights and save again.",
            )
    ranks = {match["module"] for key in adapter.lora if (match := LORA_WEIGHT.match(key))}
    unpaired = sorted(
        module
        for module in ranks
        if {m["side"] for key in adapter.lora if (m := LORA_WEIGHT.match(key)) and m["module"] == module} != {"A", "B"}
    )
    if unpaired:
        yield fatal(
            f"{len(unpaired)} module(s) have only one of the two LoRA factors: {', '.join(unpaired[:SHOWN])}",
            {"modules": unpaired[:50]},
            "The other factor stays at its initial value: the module's training is lost.",
            "Copy the adapter file again; it is cut off or was saved from a shard.",
        )


def _expected_shape(key: str, tensor: TensorFacts, base: Mapping[str, TensorFacts]) -> str | None:
    """Say what shape was needed, or None if it fits or cannot be told."""
    if match := LORA_WEIGHT.match(key):
        weight = base.get(match["module"] + ".weight")
        if weight is None or len(weight.shape) != 2:
            return None
        out_features, in_features = weight.shape
        if len(tensor.shape) != 2:
            return "two dimensions"
        if match["side"] == "A" and tensor.shape[1] != in_features:
            return f"[rank, {in_features}]"
        if match["side"] == "B" and tensor.shape[0] != out_features:
            return f"[{out_features}, rank]"
        return None
    weight = base.get(key)
    return str(list(weight.shape)) if weight and weight.shape != tensor.shape else None


def _loaded_whole(adapter: AdapterFacts, loaded: LoadedAdapterFacts) -> Iterator[Outcome]:
    if loaded.error:
        yield fatal(
            f"PEFT cannot load it: {loaded.error}",
            {"error": loaded.error},
            "The adapter cannot be served.",
            "Act on the other findings first; if there are none, the adapter belongs to another base.",
        )
    total = len(adapter.lora) + len(adapter.full)
    for keys, what, consequence in (
        (loaded.unexpected_keys, "no module of the base takes", "What they were trained to do is missing."),
        (loaded.missing_keys, "the file does not hold, though the config asks for", "They stay untrained."),
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
    if not loaded.error and adapter.peft_type not in ("LORA", ""):
        yield warning(
            f"the adapter is of type {adapter.peft_type}, not LoRA",
            {"peft_type": adapter.peft_type},
            "It is served through PEFT; checks written for LoRA tensors did not look at it.",
            "Read the effect probe's result before trusting it.",
        )


def _is_listed(key: str, adapter: AdapterFacts) -> bool:
    if any(_names(key, name) for name in adapter.modules_to_save):
        return True
    return adapter.is_bias_trained and key.endswith(".bias")


def _names(key: str, module: str) -> bool:
    """Say whether a tensor lies in such a module: PEFT matches ends of module names, so `merger` takes `vit_merger`."""
    return f"{module}." in key


def _leaf(key: str) -> str:
    return key.removesuffix(".weight").removesuffix(".bias").rsplit(".", 1)[-1]
