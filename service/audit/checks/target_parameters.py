"""Judges `target_parameters`: factors on parameters that are named one by one, instead of on modules.

Knows what PEFT builds for them and what it refuses; no value of a tensor. Source: peft 0.21.2, `lora.ParamWrapper`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from service.audit.check import Outcome, fatal, note
from service.domain.factors import LINEAR, parts_in, rank_of
from service.domain.facts import AdapterFacts

CONFIG = "adapter_config.json"
UNUSABLE = ("lora_dropout", "fan_in_fan_out", "lora_bias", "use_dora")
"""Settings beside which PEFT refuses to put factors on a parameter."""
DIMENSIONS = (2, 3)
COPY = "Copy adapter_config.json and adapter_model.safetensors again from where the adapter was trained, as one set."

Shapes = Mapping[str, tuple[int, ...]]


def named_parameters(config: Mapping[str, Any], shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Return the base's parameters that `target_parameters` names, with their shapes: PEFT compares ends of names."""
    targets = _targets(config)
    return {name: shape for name, shape in shapes.items() if any(f".{name}".endswith(f".{one}") for one in targets)}


def modules_of(parameters: Shapes) -> set[str]:
    """Return the modules that the parameters are of; factors are saved under their names."""
    return {name.rpartition(".")[0] for name in parameters}


def target_parameters(config: Mapping[str, Any], adapter: AdapterFacts, shapes: Shapes) -> Iterator[Outcome]:
    """Compare what the config names with what the base has and what the file holds.

    Args:
        config: `adapter_config.json`.
        adapter: Whose it is.
        shapes: Of the base's parameters; empty if they are not known.
    """
    targets = _targets(config)
    if config.get("target_parameters") and not targets:
        yield fatal(
            f"{CONFIG} has target_parameters {str(config['target_parameters'])[:60]!r} where a list of names is needed",
            {"target_parameters": str(config["target_parameters"])[:200]},
            "PEFT refuses to build the adapter.",
            COPY,
        )
    if not targets or not shapes:
        return
    named = named_parameters(config, shapes)
    yield from _peft_can_build(config, named)
    yield from _file_has_them(config, adapter, named)
    yield from _base_has_them(targets, named)


def _targets(config: Mapping[str, Any]) -> list[str]:
    targets = config.get("target_parameters")
    return [one for one in targets if isinstance(one, str) and one] if isinstance(targets, list) else []


def _peft_can_build(config: Mapping[str, Any], named: Shapes) -> Iterator[Outcome]:
    if wrong := {name: config[name] for name in UNUSABLE if config.get(name)}:
        name, value = next(iter(wrong.items()))
        yield fatal(
            f"{CONFIG} has {name} {value!r} beside target_parameters",
            {"settings": {key: str(one)[:100] for key, one in wrong.items()}},
            "PEFT refuses to build the adapter, so it cannot have been trained so either: two configs were mixed.",
            'Write "lora_dropout": 0, which changes no answer.' if list(wrong) == ["lora_dropout"] else COPY,
        )
    if flat := {name: list(shape) for name, shape in named.items() if len(shape) not in DIMENSIONS}:
        yield fatal(
            f"target_parameters names {next(iter(flat))}, which has {len(next(iter(flat.values())))} dimension(s)",
            {"parameters": dict(list(flat.items())[:50])},
            "PEFT puts factors on parameters of two or three dimensions only, and refuses to load.",
            COPY,
        )


def _file_has_them(config: Mapping[str, Any], adapter: AdapterFacts, named: Shapes) -> Iterator[Outcome]:
    ranks: dict[str, set[int]] = {}
    for key, part in parts_in(adapter.lora).items():
        if part.kind == LINEAR[0] and len(shape := adapter.lora[key].shape) == 2:
            ranks.setdefault(part.owner, set()).add(part.rank_in(shape))
    if lost := sorted(name for name in named if name.rpartition(".")[0] not in ranks):
        yield fatal(
            f"target_parameters names {len(lost)} parameter(s) that the file has no factors for, first {lost[0]}",
            {"parameters": lost[:50], "count": len(lost), "in_file": len(ranks)},
            "They stay untrained: a part of the training was not saved, or the config is another adapter's.",
            COPY,
        )
    wrong = {}
    for name, shape in named.items():
        found, rank = ranks.get(name.rpartition(".")[0]), rank_of(config, name)
        wanted = rank * (shape[0] if len(shape) == 3 else 1) if type(rank) is int else None  # a stack of experts
        if found and wanted and wanted not in found:
            wrong[name] = {"found": sorted(found), "expected": wanted}
    if wrong:
        name, first = next(iter(wrong.items()))
        yield fatal(
            f"the factors of {name} have rank {first['found']}, {CONFIG} makes it {first['expected']}",
            {"parameters": dict(list(wrong.items())[:50]), "count": len(wrong)},
            "Loading fails with a size mismatch.",
            "Write the rank of the tensors into r or rank_pattern, if the tensors are the trained ones.",
        )


def _base_has_them(targets: list[str], named: Shapes) -> Iterator[Outcome]:
    """A list may be shared between models; `adapter_config` says so where the file has factors that nobody asks for."""
    if idle := [one for one in targets if not any(f".{name}".endswith(f".{one}") for name in named)]:
        yield note(f"target_parameters names {', '.join(idle)}, which is no parameter of the base", {"idle": idle})
