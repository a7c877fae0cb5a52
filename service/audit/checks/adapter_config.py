"""Check of adapter_config.json against the tensors beside it: will PEFT build what the file holds.

Knows no value of a tensor. Which modules PEFT targets is told by `targeting`.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from service.audit.check import AdapterView, Check, Outcome, fatal, note, warning
from service.audit.checks.held_already import cut_out_of_the_base, is_splitting
from service.audit.checks.target_parameters import modules_of, named_parameters, target_parameters
from service.audit.targeting import LAYER, in_untouched_parts, is_targeted, matches_any
from service.audit.usage import is_tied
from service.domain.factors import FIRST, LINEAR, MAGNITUDES, ROWS, parts_in
from service.domain.facts import AdapterFacts, BaseFacts

CONFIG = "adapter_config.json"
LORA_LIKE = frozenset({"LORA", "ADALORA"})
PROMPTS = frozenset(
    {"PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "MULTITASK_PROMPT_TUNING", "CPT", "ADAPTION_PROMPT", "CARTRIDGE"}
)
ROUTED = frozenset({"XLORA", "POLY"})
"""Types whose factors PEFT's outermost module weighs anew in each forward pass."""
FLAGS = ("use_rslora", "use_dora", "lora_bias", "fan_in_fan_out")
BIASES = ("none", "all", "lora_only")
NEEDED = ("r", "lora_alpha", "target_modules")
SHOWN = 3
COPY = "Copy adapter_config.json again from where the adapter was trained."
WHY = """\
PEFT builds the adapter from its config and then fills it from the file. What the config does not ask for is dropped
without a word; what it asks for and the file lacks stays untrained. So `target_modules` that a converter shortened lose
half of the training, `use_dora` that got lost turns DoRA into a LoRA of another size, a missing `lora_alpha` becomes 8,
and another `peft_type` reads the same file as something else. Without `init_lora_weights` the factors of PiSSA and
OLoRA, which were cut out of the base, are laid over the whole base; the file shows it, as they hold the base's own
weights. Which modules a config targets is computed by PEFT's own
rules and compared with those in the file."""


def adapter_config(view: AdapterView) -> Iterator[Outcome]:
    """Compare the config with the names of the tensors."""
    adapter = view.adapter
    config = adapter.documents.get(CONFIG, {})
    if not config or not adapter.peft_type or any(one.file == CONFIG for one in adapter.problems):
        return  # adapter_applied says so
    has_factors = any(part.kind in FIRST for part in parts_in(adapter.lora).values())
    if adapter.peft_type in PROMPTS:
        yield fatal(
            f"peft_type is {adapter.peft_type}, which adds virtual tokens to the prompt",
            {"peft_type": adapter.peft_type},
            "This service applies adapters to weights only, so it cannot be served.",
            "Train LoRA instead, or serve it with PEFT.",
        )
    elif adapter.peft_type in ROUTED:
        yield fatal(
            f"peft_type is {adapter.peft_type}, which weighs its factors anew for every request",
            {"peft_type": adapter.peft_type},
            "This service applies adapters to weights only: they would act unweighed, or not at all.",
            "Train LoRA instead, or serve it with PEFT.",
        )
    elif has_factors and adapter.peft_type not in LORA_LIKE:
        yield fatal(
            f"peft_type is {adapter.peft_type}, but the file holds LoRA factors",
            {"peft_type": adapter.peft_type},
            "PEFT builds another kind of adapter and drops the factors: answers are the base's.",
            'Write "peft_type": "LORA".',
        )
    elif adapter.peft_type == "LORA":
        yield from _fields_are_there(config)
        yield from _variants_agree(config, adapter)
        yield from cut_out_of_the_base(config, adapter)
        yield from _layers_agree(config, adapter)
        yield from _rows_agree(adapter, view.base)
        if not adapter.attachment.unknown and not adapter.attachment.bare:
            shapes = dict(view.base.blueprint.parameters or {}) if view.base.blueprint else {}
            yield from target_parameters(config, adapter, shapes)
            yield from _targets_agree(config, adapter, shapes)


def _fields_are_there(config: Mapping[str, Any]) -> Iterator[Outcome]:
    missing = [name for name in NEEDED if config.get(name) is None]
    if config.get("target_parameters") and "target_modules" in missing:
        missing.remove("target_modules")
    if missing:
        yield fatal(
            f"{CONFIG} lacks {', '.join(missing)}",
            {"missing": missing},
            "PEFT takes its own defaults (r 8, lora_alpha 8) or guesses: the update is scaled wrongly or not applied.",
            COPY,
        )
        return
    rank, alpha = config["r"], config["lora_alpha"]
    yield from _values_are_usable(config)
    if isinstance(rank, int) and rank <= 0:
        yield fatal(f"r is {rank}", {"r": rank}, "PEFT refuses to build the adapter.", COPY)
    if isinstance(alpha, int | float) and alpha <= 0:
        yield fatal(
            f"lora_alpha is {alpha}",
            {"lora_alpha": alpha},
            "The update is multiplied by nothing, or by its opposite: what was trained is lost.",
            COPY,
        )


def _values_are_usable(config: Mapping[str, Any]) -> Iterator[Outcome]:
    """Look for values that PEFT computes with and that are of another type; `adapter_applied` says so of ranks."""
    alphas = config.get("alpha_pattern") or {}
    numbers = {"lora_alpha": config["lora_alpha"], "lora_dropout": config.get("lora_dropout") or 0}
    numbers |= alphas if isinstance(alphas, dict) else {"alpha_pattern": alphas}
    wrong = {name: value for name, value in numbers.items() if not _is_number(value)}
    wrong |= {name: config[name] for name in FLAGS if not isinstance(config.get(name), bool | None)}
    bias = config.get("bias")
    wrong |= {"bias": bias} if bias not in (None, *BIASES) else {}
    targets = config.get("target_modules")
    is_names = isinstance(targets, list) and all(isinstance(one, str) for one in targets)
    wrong |= {} if targets is None or isinstance(targets, str) or is_names else {"target_modules": targets}
    wrong |= {name: value for name, value in numbers.items() if name in alphas and _is_number(value) and value <= 0}
    wrong |= {one: "no regular expression" for one in _patterns(config) if not _compiles(one)}
    if wrong:
        name, value = next(iter(wrong.items()))
        yield fatal(
            f"{CONFIG} has {name} {str(value)[:60]!r}, which PEFT cannot use",
            {"values": {name: str(value)[:100] for name, value in list(wrong.items())[:20]}},
            "Loading fails, or the update is scaled by something else than in training.",
            COPY,
        )


def _patterns(config: Mapping[str, Any]) -> list[str]:
    """Return what PEFT matches module names with."""
    named = [config.get(name) for name in ("target_modules", "exclude_modules")]
    keyed = [config.get(name) for name in ("rank_pattern", "alpha_pattern")]
    keys = [key for one in keyed if isinstance(one, dict) for key in one]
    return [one for one in (*named, *keys) if isinstance(one, str)]


def _compiles(pattern: str) -> bool:
    try:
        re.compile(rf"(.*\.)?({pattern})$")
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _variants_agree(config: Mapping[str, Any], adapter: AdapterFacts) -> Iterator[Outcome]:
    """DoRA and trained biases of LoRA have tensors of their own."""
    for name, wanted, what in (
        ("use_dora", MAGNITUDES, "DoRA's magnitudes"),
        ("lora_bias", f"{LINEAR[1]}.bias", "biases of LoRA factors"),
    ):
        keys = [key for key, part in parts_in(adapter.lora).items() if part.name == wanted]
        if bool(config.get(name)) and not keys and adapter.lora:
            yield fatal(
                f"{name} is set, but the file holds no {what}",
                {name: True},
                "They stay untrained: the update is another one than was learned.",
                "Copy the adapter again; if it was trained without, write " + f'"{name}": false.',
            )
        elif keys and not config.get(name):
            yield fatal(
                f"the file holds {len(keys)} {what}, but {name} is not set",
                {"tensors": keys[:20], "count": len(keys)},
                "PEFT drops them: the update is another one than was learned.",
                f'Write "{name}": true.',
            )
    if config.get("alora_invocation_tokens"):
        yield fatal(
            "alora_invocation_tokens is set: the adapter acts only behind these tokens, which this service does not "
            "look for",
            {"alora_invocation_tokens": config["alora_invocation_tokens"]},
            "Its factors would act on no token at all, without a word.",
            "Serve it with PeftModel, which looks for the tokens in every prompt, or train it as plain LoRA.",
        )
    if is_splitting(init := config.get("init_lora_weights")):
        yield warning(
            f"init_lora_weights is {init}: the base's weights are taken apart anew at every load",
            {"init_lora_weights": init},
            "The result depends on the decomposition coming out as in training; other servers refuse the adapter or "
            "apply it to the whole weights.",
            "Convert it with PEFT's path_initial_model_for_weight_conversion, or merge it: minicpm-service merge.",
        )


def _targets_agree(
    config: Mapping[str, Any], adapter: AdapterFacts, shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[Outcome]:
    modules = {part.owner for part in parts_in(adapter.lora).values() if part.is_factor}
    by_name = bool(config.get("target_parameters"))
    modules -= modules_of(named_parameters(config, shapes))
    if not modules or (by_name and not shapes) or config.get("target_modules") == "all-linear":
        return
    # Factors of an attention's `out_proj` lie within the layer that PEFT puts around the attention.
    dropped = sorted(one for one in modules if not is_targeted(config, one.partition(".base_layer.")[0]))
    if dropped:
        yield fatal(
            f"{len(dropped)} of {len(modules)} modules in the file are not among target_modules, first {dropped[0]}"
            + (f"; target_parameters {config['target_parameters']} does not name them" if by_name else ""),
            {"modules": dropped[:50], "count": len(dropped), "in_file": len(modules)},
            "PEFT drops their factors: that part of the training is lost.",
            f"Write the modules of the file into target_modules of {CONFIG}: minicpm-service repair."
            if not by_name
            else "Write each parameter's own name, such as up_proj.weight, into target_parameters.",
        )
        return
    saved = adapter.modules_to_save
    asked = [
        name.removesuffix(".weight") for name, shape in shapes.items() if name.endswith(".weight") and len(shape) == 2
    ]
    absent = sorted(
        one for one in asked if one not in modules and is_targeted(config, one) and not matches_any(one, saved)
    )
    if absent:
        is_untouched = in_untouched_parts(config, absent, adapter.lora)
        yield (warning if is_untouched else fatal)(
            f"the config targets {len(absent)} module(s) that the file has no factors for, first {absent[0]}",
            {"modules": absent[:50], "count": len(absent), "in_file": len(modules)},
            "PEFT gives them factors that change nothing: sound, if this part was never trained; if it was, its "
            "training was not saved."
            if is_untouched
            else "They stay untrained: a part of the training was not saved, or the config is another adapter's.",
            "Copy the folder again; if they were never trained, restore target_modules and exclude_modules.",
        )
    patterns = [one for name in ("rank_pattern", "alpha_pattern") for one in _keys(config.get(name)) if _compiles(one)]
    if idle := [one for one in patterns if not any(re.match(rf"(.*\.)?({one})$", name) for name in modules)]:
        yield note(f"rank_pattern or alpha_pattern {idle[0]!r} fits no module of the file", {"patterns": idle[:20]})


def _keys(pattern: Any) -> list[str]:
    return [one for one in pattern if isinstance(one, str)] if isinstance(pattern, dict) else []


def _layers_agree(config: Mapping[str, Any], adapter: AdapterFacts) -> Iterator[Outcome]:
    """With `layer_replication` PEFT builds as many layers as the spans say, each with factors of its own."""
    spans = config.get("layer_replication")
    if not isinstance(spans, list) or not all(_is_span(one) for one in spans) or not spans:
        return
    wanted = sum(stop - start for start, stop in spans)
    layers = {int(match["index"]) for key in adapter.lora if (match := LAYER.match(key))}
    if layers and max(layers) + 1 < wanted:
        yield fatal(
            f"layer_replication makes {wanted} layers, the file has factors for {max(layers) + 1}",
            {"layer_replication": spans, "layers": sorted(layers)[:200]},
            "The model is rebuilt with layers that the adapter was not trained with.",
            COPY,
        )


def _is_span(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(one) is int for one in value)


def _rows_agree(adapter: AdapterFacts, base: BaseFacts) -> Iterator[Outcome]:
    """Every module of `trainable_token_indices` must have its rows in the file; those of tied ones are saved once."""
    modules = {part.module for part in parts_in(adapter.lora).values() if part.kind == ROWS}
    if modules and not adapter.trainable_tokens:
        yield fatal(
            f"the file holds trained rows of {', '.join(sorted(modules))}, but the config has no "
            "trainable_token_indices",
            {"in_file": sorted(modules)},
            "PEFT drops the rows without a word: what the tokens were trained for is lost.",
            COPY
            + " If it is gone: minicpm-service repair lists the ids again where the tokenizer adds as many tokens.",
        )
        return
    lost = [
        one
        for one in adapter.trainable_tokens
        if one != "*" and not any(f".{name}".endswith(f".{one}") for name in modules)
    ]
    if is_tied(base) and len(lost) < len(adapter.trainable_tokens):
        return
    if modules and lost:
        yield fatal(
            f"trainable_token_indices names {lost[0]}, but the file's rows are of {', '.join(sorted(modules))}",
            {"modules": lost, "in_file": sorted(modules)},
            "The rows are dropped, or written into another matrix: what the tokens mean is lost.",
            COPY,
        )


CHECK = Check(
    "adapter_config",
    "The config asks for exactly what the file holds",
    of_adapter=adapter_config,
    takes_foreign=True,
    why=WHY,
)
