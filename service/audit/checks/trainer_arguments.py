"""Judges adapter_config.json by what the trainer wrote beside it about the run; `adapter_lineage` says so.

Knows no value of a tensor. Arguments that leave a setting open, or leave it to the trainer, contradict nothing.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from service.audit.check import Outcome, fatal, note
from service.audit.targeting import PART, is_targeted, matches_any
from service.domain.factors import is_magnitude, parts_in, told_scale
from service.domain.facts import AdapterFacts, BaseFacts, Recipe

CONFIG = "adapter_config.json"
SAME_SCALE = 0.01
SCALE = ("r", "lora_alpha", "use_rslora")
DEFAULTS = {"r": 8, "lora_alpha": 8, "use_rslora": False, "use_dora": False}
"""What PEFT takes where the config is silent."""
COPY = "Copy adapter_config.json and adapter_model.safetensors again from where the adapter was trained, as one set."


def trainer_arguments(config: Mapping[str, Any], adapter: AdapterFacts, base: BaseFacts) -> Iterator[Outcome]:
    """Compare every recipe in the folder with config and file."""
    if adapter.peft_type != "LORA":
        return
    for recipe in _undisputed(adapter.recipes):
        yield from _scale_agrees(config, recipe)
        yield from _magnitudes_are_there(config, adapter, recipe)
        if not recipe.is_continued and not adapter.attachment.unknown and not adapter.attachment.bare:
            yield from _targets_are_there(config, adapter, base, recipe)
            yield from _saved_are_there(adapter, base, recipe)


def _undisputed(recipes: Sequence[Recipe]) -> list[Recipe]:
    """Leave out the settings of which several recipes say different things: at most one is of this run."""
    named = {name for one in recipes for name in one.values}
    disputed = {name for name in named if len({one.values[name] for one in recipes if name in one.values}) > 1}
    disputed |= set(SCALE) if disputed & set(SCALE) else set()
    return [replace(one, values={k: v for k, v in one.values.items() if k not in disputed}) for one in recipes]


def _scale_agrees(config: Mapping[str, Any], recipe: Recipe) -> Iterator[Outcome]:
    """Compare what the product of the factors is multiplied with. Of another rank, they were computed anew."""
    served = {name: config.get(name, default) for name, default in DEFAULTS.items()}
    told = {name: recipe.values.get(name, served[name]) for name in DEFAULTS}
    scales = _scale(served), _scale(told)
    names = [name for name in SCALE if told[name] != served[name]]
    if None in scales or not names:
        return
    said = ", ".join(f"{recipe.names[name]} {_shown(told[name])}" for name in names)
    other = ", ".join(f"{name} {_shown(served[name])}" for name in names)
    evidence = {
        recipe.file: {recipe.names[name]: told[name] for name in names},
        CONFIG: {one: served[one] for one in names},
    }
    now, then = scales[0] or 0.0, scales[1] or 0.0
    if "r" in names or recipe.is_continued or math.isclose(now, then, rel_tol=SAME_SCALE):
        yield note(f"{recipe.file} says {said}, {CONFIG} {other}", evidence | {"scale": now, "scale_in_training": then})
        return
    yield fatal(
        f"{recipe.file} says {said}, {CONFIG} {other}: the update is multiplied by {now:.4g}, in training by "
        f"{then:.4g}",
        evidence | {"scale": now, "scale_in_training": then},
        f"Every update is {now / then:.3g} times what was trained.",
        f"Write into {CONFIG} what training had: {_settings(told, names)}. If {recipe.file} is of another run, delete "
        "it.",
    )


def _scale(values: Mapping[str, Any]) -> float | None:
    numbers = (values["r"], values["lora_alpha"])
    is_number = all(isinstance(one, int | float) and not isinstance(one, bool) and one > 0 for one in numbers)
    return told_scale(values, "", 0) if is_number else None


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _settings(values: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f'"{name}": {_shown(values[name])}' for name in names)


def _magnitudes_are_there(config: Mapping[str, Any], adapter: AdapterFacts, recipe: Recipe) -> Iterator[Outcome]:
    """DoRA that neither file nor config shows was taken out of both; the other cases are told without arguments."""
    is_told = recipe.values.get("use_dora") is True and not recipe.is_continued
    if is_told and not config.get("use_dora") and not any(is_magnitude(key) for key in adapter.lora):
        yield fatal(
            f"{recipe.file} says {recipe.names['use_dora']} true, but {CONFIG} does not set use_dora and the file "
            "holds no magnitudes (lora_magnitude_vector)",
            {recipe.file: {recipe.names["use_dora"]: True}, CONFIG: {"use_dora": config.get("use_dora")}},
            "The lengths of the rows that training chose are lost: the update is another one than was learned.",
            COPY + f" If {recipe.file} is of another run, delete it.",
        )


def _targets_are_there(
    config: Mapping[str, Any], adapter: AdapterFacts, base: BaseFacts, recipe: Recipe
) -> Iterator[Outcome]:
    """Look for modules that training targeted and neither config nor file knows any more."""
    held = {part.owner for part in parts_in(adapter.lora).values() if part.is_factor}
    kept = {name: value for name, value in config.items() if name != "target_modules"}
    linear = [one.removesuffix(".weight") for one, facts in base.tensors.items() if len(facts.shape) == 2]
    linear = [one for one in linear if not PART.search(one) and not matches_any(one, adapter.modules_to_save)]
    lost = []
    for name in recipe.values.get("target_modules", ()):
        meant = [one for one in linear if is_targeted({**kept, "target_modules": [name]}, one)]
        is_known = any(one in held or is_targeted(config, one) for one in meant)
        if held and meant and not is_known:
            lost.append(name)
    if lost:
        yield fatal(
            f"{recipe.file} says that training targeted {', '.join(lost)} ({recipe.names['target_modules']}), but "
            f"{CONFIG} does not, and the file has no factors for them",
            {recipe.file: list(recipe.values["target_modules"]), CONFIG: config.get("target_modules"), "lost": lost},
            "What these modules were trained for is lost.",
            COPY + f" If {recipe.file} is of another run, delete it.",
        )


def _saved_are_there(adapter: AdapterFacts, base: BaseFacts, recipe: Recipe) -> Iterator[Outcome]:
    """Look for modules that training saved whole and that neither config nor file has."""
    held = [
        *adapter.full,
        *adapter.lora,
        *(f"{name}." for name in (*adapter.modules_to_save, *adapter.trainable_tokens)),
    ]
    wanted = recipe.values.get("modules_to_save", ())
    lost = [
        name
        for name in wanted
        if any(f".{name}." in f".{one}" for one in base.tensors) and not any(f".{name}." in f".{one}" for one in held)
    ]
    if lost:
        yield fatal(
            f"{recipe.file} says that training saved {', '.join(lost)} whole ({recipe.names['modules_to_save']}), but "
            f"modules_to_save of {CONFIG} and the file lack them",
            {recipe.file: list(wanted), "lost": lost},
            "What these modules were trained for is lost: they stay the base's, and answers worse than in training.",
            COPY + f" This service loads modules that were saved whole. If {recipe.file} is of another run, delete it.",
        )
