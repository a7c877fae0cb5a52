"""Check of MiniCPM-V 2.6, 4.0 and 4.5: the flat config, the tower, the resampler, what cuts pictures, the stop set.

Knows no token but those that end answers.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from service.audit.check import BaseView, Check, Outcome, fatal, note, warning
from service.audit.checks.picture_settings import MOST_APART
from service.audit.checks.weights_complete import unused_parts
from service.audit.older_minicpmv import (
    OFFICIAL,
    SCALE_RESOLUTION,
    TOWER,
    config_of,
    judged_version,
    official_stops,
    tower_layers,
)
from service.audit.trust import is_tokenizer_sound
from service.domain.facts import BaseFacts
from service.domain.minicpmv import HEAD_SIZE, OTHER_SENSES, TABLES, misfit_fields, missing_fields, version_of

SETTINGS = "preprocessor_config.json"
LOWEST = 0.5
"""Share of the official rotary base below which it was not trained: training for long contexts makes it larger."""
SQUEEZED = 1.5
"""Linear scaling of positions from which answers suffer; the demo answers 33 of 60 with 2 instead of 59."""
LEFT_OUT = re.compile("|".join((*OTHER_SENSES, *TABLES)))
NAMELESS = ("resampler.query", "resampler.proj", "resampler.attn.in_proj_weight")
"""Matrices of the connector whose names do not end in `.weight`."""
TAKE_CONFIG = "Take config.json from the official checkpoint that this one was made of: minicpm-service repair --base."
GARBAGE = "Every shape fits and nothing fails: answers are garbage or quietly worse."
WHY = """\
transformers has no class for MiniCPM-V 2.6, 4.0 and 4.5. This service builds one from the official flat `config.json`,
takes no default for a field that decides, and loads all tensors or nothing. So what it would refuse at loading is said
here, from the files: a missing field, a width that the resampler cannot divide, a tensor that is no part of the model,
picture settings that it cannot read.

Worse is what loads. The official class drops the tower's last layer unless `drop_vision_last_layer` is there and
false; 2.6 with another number of heads has the same shapes; a rotary base of 1e4 turns all positions of 2.6 and 4.5 at
another speed (a larger base than the official one may be a training for long contexts, and is a warning); linear
scaling squeezes them; 4.0 without its `rope_scaling` does too. Where the sizes are those of an official checkpoint,
the numbers must be.

An answer ends with `<|im_end|>` or with `<|endoftext|>` (2.6, 4.5) or `</s>` (4.0): official `chat()` stops at both,
and so does this service. `config.json`, and 2.6's official `generation_config.json`, name one; a note says so.

As long as `version` and the tensors disagree, which `model_config` says, nothing is said that depends on it.

`version` 2.6 in every preprocessor_config.json, remote code that is named and not there, a tower called
`siglip_vision_model`, and tensors for hearing and speaking are no finding; the first two are among the facts of the
JSON report, as other servers need that code."""


def base_minicpmv(view: BaseView) -> Iterator[Outcome]:
    """Look at everything that is particular to this family."""
    base = view.base
    if not config_of(base):
        return
    config = {**config_of(base), "version": judged_version(base)}
    yield from _fields_are_there(config)
    yield from _fields_can_be_used(config)
    yield from _sizes_divide(config)
    yield from _numbers_are_official(config)
    yield from _positions_are_official(config)
    yield from _last_layer(config, base)
    yield from _resampler_is_alive(base)
    yield from _nothing_beside(base)
    yield from _settings_can_be_read(base)
    yield from _cutting(config, base)
    if is_tokenizer_sound(view):
        yield from _stops_are_whole(config, base)


def _vision(config: Mapping[str, Any]) -> Mapping[str, Any]:
    part = config.get("vision_config")
    return part if isinstance(part, dict) else {}


def _fields_are_there(config: Mapping[str, Any]) -> Iterator[Outcome]:
    missing = missing_fields(config)
    if not missing:
        return
    text = config.get("text_config")
    nested = sorted(set(text) & set(missing)) if isinstance(text, dict) else []
    beside = f"; {', '.join(nested[:3])} stand in text_config, where this layout has none" if nested else ""
    yield fatal(
        f"config.json lacks {', '.join(missing)}{beside}",
        {"missing": missing, "in_text_config": nested},
        "Loading is refused: a class's default would be that of another size.",
        "Move them to the top of config.json." if nested else TAKE_CONFIG,
    )


def _fields_can_be_used(config: Mapping[str, Any]) -> Iterator[Outcome]:
    if misfits := misfit_fields(config):
        shown = ", ".join(f"{name} is {repr(value)[:40]}, not {wanted}" for name, value, wanted in misfits)
        yield fatal(
            f"config.json: {shown}",
            {"settings": {name: repr(value)[:80] for name, value, _ in misfits}},
            "Loading is refused: nothing can be built with such a value.",
            TAKE_CONFIG,
        )


def _sizes_divide(config: Mapping[str, Any]) -> Iterator[Outcome]:
    vision = _vision(config)
    for name, part, key, divisor in (
        ("hidden_size", config, "hidden_size", HEAD_SIZE),
        ("vision_config.hidden_size", vision, "hidden_size", vision.get("num_attention_heads")),
    ):
        size = part.get(key)
        if isinstance(size, int) and isinstance(divisor, int) and divisor > 0 and size % divisor:
            yield fatal(
                f"{name} {size} is no multiple of {divisor}, into which its attention divides it",
                {"setting": name, "value": size, "divisor": divisor},
                "Loading is refused, or fails.",
                TAKE_CONFIG,
            )


def _numbers_are_official(config: Mapping[str, Any]) -> Iterator[Outcome]:
    """Numbers of heads leave no trace in shapes; a model of an official size has the official ones."""
    version, vision = version_of(config), _vision(config)
    wrong: dict[str, tuple[Any, Any]] = {}
    if version and config.get("hidden_size") == OFFICIAL[version].hidden:
        heads, shared = OFFICIAL[version].heads
        wrong["num_attention_heads"] = config.get("num_attention_heads"), heads
        wrong["num_key_value_heads"] = config.get("num_key_value_heads"), shared
        wrong["head_dim"] = config.get("head_dim") or config["hidden_size"] // heads, 128
    if vision.get("hidden_size") == TOWER["hidden_size"]:
        wrong["vision_config.num_attention_heads"] = vision.get("num_attention_heads"), TOWER["num_attention_heads"]
    wrong = {name: (found, wanted) for name, (found, wanted) in wrong.items() if found not in (wanted, None)}
    if wrong:
        shown = ", ".join(f"{name} {found} (official: {wanted})" for name, (found, wanted) in wrong.items())
        yield fatal(
            f"config.json of a {version or 'MiniCPM-V'} in its official size has {shown}",
            {"settings": {name: {"found": found, "official": wanted} for name, (found, wanted) in wrong.items()}},
            GARBAGE,
            TAKE_CONFIG,
        )


def _positions_are_official(config: Mapping[str, Any]) -> Iterator[Outcome]:
    version, parameters = version_of(config), config.get("rope_parameters")
    if version is None:
        return
    theta, scaling, wanted = config.get("rope_theta"), config.get("rope_scaling"), OFFICIAL[version].theta
    if isinstance(parameters, dict):  # transformers 5 writes both as one
        theta, scaling = parameters.get("rope_theta", theta), parameters
    if isinstance(theta, int | float) and theta > 1 and theta != wanted:
        is_low = theta < LOWEST * wanted
        yield (fatal if is_low else warning)(
            f"rope_theta is {theta:g}; every official {version} has {wanted:g}",
            {"rope_theta": theta, "official": wanted, "version": version},
            "Positions turn at another speed than in training"
            + (": " if is_low else ", unless a long-context training changed it: ")
            + GARBAGE,
            f"Write {wanted:g}" + ("." if is_low else ", if training did not change it."),
        )
    kind = (scaling.get("rope_type") or scaling.get("type")) if isinstance(scaling, dict) else None
    kind = None if kind == "default" else kind
    if kind == "longrope" and version == "4.0":
        yield from _factors_fit(config, scaling or {})
    factor = scaling.get("factor") if isinstance(scaling, dict) else None
    if kind == "linear" and isinstance(factor, int | float) and factor >= SQUEEZED:
        yield fatal(
            f"rope_scaling is linear with factor {factor:g}; official 4.0 has longrope, 2.6 and 4.5 have none",
            {"rope_scaling": kind, "factor": factor, "version": version},
            f"All positions are squeezed {factor:g} times, those of short prompts too: " + GARBAGE,
            TAKE_CONFIG,
        )
    if (kind == "longrope") != (version == "4.0") and kind in (None, "longrope"):
        yield warning(
            f"rope_scaling is {kind or 'missing'}; official 4.0 has longrope, 2.6 and 4.5 have none",
            {"rope_scaling": kind, "version": version},
            "Positions turn at other speeds than in training: " + GARBAGE,
            TAKE_CONFIG,
        )


def _factors_fit(config: Mapping[str, Any], scaling: Mapping[str, Any]) -> Iterator[Outcome]:
    """One factor for every pair of turned dimensions."""
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if not isinstance(hidden, int) or not isinstance(heads, int) or heads <= 0:
        return
    pairs = (config.get("head_dim") or hidden // heads) // 2
    lists = {name: scaling.get(name) for name in ("long_factor", "short_factor")}
    wrong = {name: len(one) if isinstance(one, list) else None for name, one in lists.items()}
    wrong = {name: count for name, count in wrong.items() if count != pairs}
    if wrong:
        shown = ", ".join(f"{name} {'no' if count is None else count}" for name, count in wrong.items())
        yield fatal(
            f"rope_scaling has {shown} numbers, one for each of {pairs} pairs of dimensions is needed",
            {"found": wrong, "needed": pairs},
            "Loading or the first request fails.",
            TAKE_CONFIG,
        )


def _last_layer(config: Mapping[str, Any], base: BaseFacts) -> Iterator[Outcome]:
    """The official class drops the tower's last layer where the field is missing; every official file keeps it."""
    declared, named = _vision(config).get("num_hidden_layers"), config.get("drop_vision_last_layer")
    stored = tower_layers(base.tensors)
    if not isinstance(declared, int) or not stored or named is False:
        return
    is_whole = stored >= declared
    evidence = {"drop_vision_last_layer": named, "declared": declared, "stored": stored}
    write = 'Write "drop_vision_last_layer": false into config.json: minicpm-service repair.'
    if named is None:
        yield warning(
            f"config.json does not say drop_vision_last_layer; the file holds {stored} of the tower's {declared} "
            "layers",
            evidence,
            "This service uses what the file holds; the official class drops the last layer, and servers that follow "
            "it see pictures otherwise than in training.",
            write if is_whole else 'Write "drop_vision_last_layer": true into config.json.',
        )
    elif is_whole:
        yield fatal(
            f"drop_vision_last_layer is {named}, but the file holds all {stored} layers of the tower",
            evidence,
            "The last layer is built away and its tensors are too many: loading is refused; where it is not, pictures "
            "are seen otherwise than in training.",
            write,
        )


def _resampler_is_alive(base: BaseFacts) -> Iterator[Outcome]:
    if zero := [name for name in NAMELESS if name in base.inner.all_zero]:
        yield fatal(
            f"{', '.join(zero)} hold(s) nothing but zeros",
            {"tensors": {name: list(base.tensors[name].shape) for name in zero}},
            "Every picture gives the same features: answers about pictures are invented.",
            "Copy the resampler's tensors from the base model; sharded training must gather them before saving.",
        )


def _nothing_beside(base: BaseFacts) -> Iterator[Outcome]:
    """Loading takes no tensor too many; those for hearing and speaking are left out."""
    blueprint = base.blueprint
    if blueprint is None or blueprint.missing:
        return  # weights_complete says that names are spelled otherwise, or that layers and factors are left over
    _, _, beside = unused_parts(blueprint, base.tensors)
    unknown = [name for name in beside if not LEFT_OUT.search(name)]
    if unknown:
        yield fatal(
            f"{len(unknown)} tensor(s) are no part of a MiniCPM-V, first {unknown[0]} "
            f"{list(base.tensors[unknown[0]].shape)}",
            {"tensors": unknown[:50], "count": len(unknown)},
            "Loading is refused: what they were trained to do has no place in the model.",
            "Save the model again with the official class; if they are left over, save without them.",
        )


def _settings_can_be_read(base: BaseFacts) -> Iterator[Outcome]:
    """The service reads preprocessor_config.json and no other, with three numbers for the colours."""
    if SETTINGS not in base.files:
        if "processor_config.json" in base.files:
            yield fatal(
                f"there is a processor_config.json and no {SETTINGS}",
                {"files": sorted(base.files)[:50]},
                "Loading is refused: this family has all picture settings in the second.",
                f"Copy {SETTINGS} from the base model; it may be the part image_processor of the first.",
            )
        return
    settings = base.documents.get(SETTINGS, {})
    wrong = {key: settings[key] for key in ("norm_mean", "norm_std") if key in settings and not _is_rgb(settings[key])}
    if wrong:
        key, value = next(iter(wrong.items()))
        yield fatal(
            f"{key} of {SETTINGS} is {value!r}, not three numbers",
            {"settings": {one: str(found)[:80] for one, found in wrong.items()}},
            "Loading is refused.",
            f'Write "{key}": [0.5, 0.5, 0.5], as every official file has it.',
        )


def _is_rgb(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3


def _cutting(config: Mapping[str, Any], base: BaseFacts) -> Iterator[Outcome]:
    settings, slices = base.documents.get(SETTINGS, {}), config.get("slice_config")
    patch = _vision(config).get("patch_size")
    side = settings.get("scale_resolution", SCALE_RESOLUTION)
    declared = slices.get("patch_size") if isinstance(slices, dict) else None
    if isinstance(declared, int) and isinstance(patch, int) and declared != patch:
        yield warning(
            f"slice_config says patches of {declared} pixels, the vision tower takes {patch}",
            {"slice_config": declared, "vision_config": patch},
            "This service cuts by the processor's file; servers that follow config.json cut pictures wrongly.",
            f"Write {patch} into slice_config.",
        )
    if not isinstance(side, int) or isinstance(side, bool) or not isinstance(patch, int) or side <= 0:
        return  # picture_settings says so
    if side < patch:
        yield fatal(
            f"scale_resolution is {side}, less than a patch of {patch} pixels",
            {"scale_resolution": side, "patch_size": patch},
            "Every slice shrinks to a patch or two: nothing in a picture can be recognised.",
            f"Write {SCALE_RESOLUTION}, as every official file has it.",
        )
    elif _vision(config).get("image_size") == TOWER["image_size"] and side != SCALE_RESOLUTION:
        is_far = max(side, SCALE_RESOLUTION) >= MOST_APART * min(side, SCALE_RESOLUTION)
        is_far = is_far and config.get("image_size") != side
        yield (fatal if is_far else warning)(
            f"scale_resolution is {side}; every official file has {SCALE_RESOLUTION} with this tower",
            {"scale_resolution": side, "official": SCALE_RESOLUTION, "image_size": config.get("image_size")},
            "Pictures are cut at another scale than in training: small print is lost, or prompts grow.",
            f"Write {SCALE_RESOLUTION}; if pictures were cut at {side} in training, write {side} as image_size into "
            "config.json.",
        )


def _stops_are_whole(config: Mapping[str, Any], base: BaseFacts) -> Iterator[Outcome]:
    """The official `chat()` stops at two tokens; `stop_set` says so where the one that the template writes is lost."""
    wanted, template = official_stops(base), base.template  # none while the version is not settled
    lost = {text: one for text, one in wanted.items() if one not in base.stop_ids}
    if template and template.turn_end in lost:
        lost.pop(template.turn_end)
    if lost and base.stop_ids:
        names = " and ".join(f"{text} (id {one})" for text, one in lost.items())
        yield note(
            f"official {version_of(config)} also ends answers at {names}; the files name {list(base.stop_ids)} only",
            {"missing": lost, "stop_ids": list(base.stop_ids), "official": wanted},
            "This service ends them there, too; on servers that follow the files such an answer goes on until "
            "max_new_tokens.",
            f'Write "eos_token_id": {sorted({*base.stop_ids, *lost.values()})} into generation_config.json: '
            "minicpm-service repair.",
        )


CHECK = Check(
    "minicpmv",
    "MiniCPM-V 2.6, 4.0 and 4.5: config, tower, resampler and stop set are whole",
    base_minicpmv,
    why=WHY,
)
