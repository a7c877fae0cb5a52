"""Checks of config.json alone and against the tensors: is it this model's config, and does the class read all of it.

Knows nothing of another folder; `origin` compares with the one that was tuned.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from service.audit.check import BaseView, Check, Outcome, fatal, note
from service.audit.checks.context import context_is_wide
from service.audit.checks.language_settings import settings_are_official
from service.audit.older_minicpmv import has_language_model, lost_norms, stored_version
from service.domain.facts import BaseFacts
from service.domain.minicpmv import version_of

CONFIG = "config.json"
OWN_LISTS = frozenset({"minicpmv"})
"""Model types that are known here without transformers and without the folder's code."""
DTYPES = frozenset({"bfloat16", "float16", "float32", "float64", "half", "float", "double", "auto"})
ROPE_KEYS = ("rope_parameters", "rope_theta", "rope_scaling")
PACKED = re.compile(
    r"\.(qweight|qzeros|scales|g_idx|weight_scale\w*|weight_packed|weight\.absmax|SCB|weight\.quant_\w+)"
)
PACKED_TYPES = frozenset({"U8", "I8", "I32", "U32", "F8_E4M3", "F8_E5M2"})
REPEATED = ("insert_layer_id", "patch_size")
"""Settings that stand at the top and again in `vision_config`; the class believes the top."""
POSITIVE = ("rope_theta", "rms_norm_eps", "layer_norm_eps", "scale_emb", "scale_depth", "dim_model_base", "norm_eps")
MAX_EPS = 1e-2
MRO_TYPES = frozenset({"minicpmv4_7"})
MRO_KEYS = ("image_start_id", "image_end_id", "slice_start_id", "slice_end_id", "newline_id")
RESTORE = "Copy config.json from the base model that was tuned, and change only what training changed."
WRONG = "The model computes something else than what was trained: answers are wrong."


def base_model_config(view: BaseView) -> Iterator[Outcome]:
    """Judge every part of config.json that can be judged without its origin."""
    base = view.base
    config = base.documents.get(CONFIG, {})
    if not config or any(one.file == CONFIG for one in base.problems):
        return  # `files` says what is wrong with it
    yield from _kind(base, config)
    yield from _classes(base, config)
    if base.blueprint and base.blueprint.problem:
        yield fatal(
            f"config.json cannot be made into a model: {base.blueprint.problem}",
            {"problem": base.blueprint.problem},
            "The model cannot be loaded.",
            RESTORE,
        )
    yield from _rope(base, config)
    yield from _numbers(config)
    yield from settings_are_official(view)
    yield from context_is_wide(base, _read_text(base) if base.is_native else config)
    yield from _repeated(config)
    yield from _dtype(config)
    yield from _quantisation(base, config)
    yield from _version(base, config)
    yield from _canvas(base, config)


def _kind(base: BaseFacts, config: Mapping[str, Any]) -> Iterator[Outcome]:
    """The model type must be one that transformers knows, or come with its code."""
    model_type = config.get("model_type")
    if base.is_native:
        return
    modules = code_files(config)
    lost = sorted(name for name in modules if name not in base.files)
    named = f"model_type {model_type!r}" if model_type else "no model_type"
    if model_type in OWN_LISTS:
        return  # none of its code is run, or asked for
    if lost:
        yield fatal(
            f"config.json has {named}, which needs code of its own, and auto_map names {', '.join(lost)}, which the "
            "folder lacks",
            {"model_type": model_type, "missing": lost},
            "The model cannot be loaded.",
            f"Copy {', '.join(lost)} from the base model's repository.",
        )
    elif not modules and not (isinstance(config.get("auto_map"), dict) and config["auto_map"]):
        yield fatal(
            f"config.json has {named}, which transformers does not know, and no auto_map that names code for it",
            {"model_type": model_type},
            "No server can tell which model this is: loading fails.",
            "Write the model_type of the base model into config.json, with its auto_map if it has one.",
        )


def code_files(config: Mapping[str, Any]) -> set[str]:
    """Name the Python files of the folder itself that `auto_map` asks for."""
    listed = config.get("auto_map")
    values = listed.values() if isinstance(listed, dict) else ()
    flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return {f"{one.split('.')[0]}.py" for one in flat if isinstance(one, str) and "--" not in one and "." in one}


def _classes(base: BaseFacts, config: Mapping[str, Any]) -> Iterator[Outcome]:
    """`architectures` must name a class that generates text with this model type."""
    known = base.blueprint.classes if base.blueprint else ()
    named = config.get("architectures")
    if not known:
        return
    if not named:
        yield note(
            "config.json names no architectures",
            {"expected": list(known)},
            "This service takes the class from model_type; vLLM and SGLang need the name.",
            f'Write "architectures": ["{known[0]}"] into config.json.',
        )
    elif not isinstance(named, list) or not set(map(str, named)) & set(known):
        yield fatal(
            f"architectures is {named}, but {base.model_type} generates with {' or '.join(known)}",
            {"architectures": named, "expected": list(known), "model_type": base.model_type},
            "Servers that choose by this name refuse the model or build another one; saved through AutoModel, the "
            "output matrix is lost.",
            f'Write "architectures": ["{known[0]}"]; if the model was saved through AutoModel, save it again through '
            f"{known[0]}.",
        )


def _rope(base: BaseFacts, config: Mapping[str, Any]) -> Iterator[Outcome]:
    """Rotary settings must stand where the class reads them, and say one thing."""
    text = config.get("text_config")
    part: Mapping[str, Any] = text if isinstance(text, dict) else config
    if part is not config and any(config.get(key) is not None for key in ROPE_KEYS):
        aside = {key: config[key] for key in ROPE_KEYS if config.get(key) is not None}
        if not any(part.get(key) is not None for key in ROPE_KEYS):
            yield fatal(
                f"{', '.join(aside)} stand at the top of config.json, where the class does not read them, and "
                "text_config has none",
                {"ignored": aside},
                "Positions turn at the default speed, which the model was not trained with: " + WRONG,
                "Move them into text_config.",
            )
    theta, parameters = part.get("rope_theta"), part.get("rope_parameters")
    inner = parameters.get("rope_theta") if isinstance(parameters, dict) else None
    if theta is not None and inner is not None and theta != inner:
        yield fatal(
            f"rope_theta is {theta} and rope_parameters.rope_theta is {inner}",
            {"rope_theta": theta, "rope_parameters": inner},
            "transformers 5 believes the second, older libraries the first: one of them gives garbage.",
            "Keep the value of the base model's config.json in both places.",
        )
    read = _read_text(base)
    is_saved_by_v5 = str(config.get("transformers_version", "")).startswith("5.")
    if is_saved_by_v5 and "rope_parameters" in read and not any(part.get(key) is not None for key in ROPE_KEYS):
        yield fatal(
            "config.json has lost its rope_parameters, which transformers 5 always writes",
            {"default": read["rope_parameters"]},
            "Positions turn at the class's default speed: " + WRONG,
            "Copy rope_parameters from the base model's config.json.",
        )
    yield from _sections(read)


def _read_text(base: BaseFacts) -> Mapping[str, Any]:
    """Return the text settings as the class reads them; empty if it cannot."""
    read = base.blueprint.config if base.blueprint and base.is_native else {}
    text = read.get("text_config")
    return text if isinstance(text, dict) else read


def _sections(read: Mapping[str, Any]) -> Iterator[Outcome]:
    """The sections of M-RoPE share out half of the turned dimensions."""
    rope, head = read.get("rope_parameters"), read.get("head_dim")
    sections = rope.get("mrope_section") if isinstance(rope, dict) else None
    if not (isinstance(sections, list) and isinstance(head, int) and all(isinstance(one, int) for one in sections)):
        return
    share = rope.get("partial_rotary_factor", 1.0) if isinstance(rope, dict) else 1.0
    half = int(head * share) // 2
    if sum(sections) != half:
        yield fatal(
            f"mrope_section {sections} adds up to {sum(sections)}, but half of the turned dimensions is {half}",
            {"mrope_section": sections, "head_dim": head, "partial_rotary_factor": share},
            "Positions of pictures are wrong, or the first request fails.",
            RESTORE,
        )


def _numbers(config: Mapping[str, Any]) -> Iterator[Outcome]:
    """Look for values that no model has."""
    for path, part in _parts(config):
        for key in POSITIVE:
            value = part.get(key)
            if _is_nonsense(key, value):
                yield fatal(
                    f"{path}{key} is {value}, which no model is trained with",
                    {"setting": f"{path}{key}", "value": str(value)},
                    WRONG,
                    RESTORE,
                )
    for path, part in _parts(config):
        heads, shared = part.get("num_attention_heads"), part.get("num_key_value_heads")
        if isinstance(heads, int) and isinstance(shared, int) and (shared < 1 or heads % shared):
            yield fatal(
                f"{path}num_attention_heads {heads} is no multiple of num_key_value_heads {shared}",
                {"num_attention_heads": heads, "num_key_value_heads": shared},
                "The first request fails.",
                RESTORE,
            )
    vision = config.get("vision_config")
    layers = vision.get("num_hidden_layers") if isinstance(vision, dict) else None
    inserted = config.get("insert_layer_id")
    if isinstance(inserted, int) and isinstance(layers, int) and not -1 <= inserted < layers:
        yield fatal(
            f"insert_layer_id is {inserted}, but the vision tower has {layers} layers",
            {"insert_layer_id": inserted, "num_hidden_layers": layers},
            "The merger inside the tower is never reached: pictures are read wrongly, or their count does not fit.",
            RESTORE,
        )


def _is_nonsense(key: str, value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    is_small = value <= (1 if key == "rope_theta" else 0)
    return is_small or (key.endswith("eps") and value > MAX_EPS)


def _parts(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "", config
    for name in ("text_config", "vision_config"):
        if isinstance(part := config.get(name), dict):
            yield f"{name}.", part
            if isinstance(rope := part.get("rope_parameters"), dict):
                yield f"{name}.rope_parameters.", rope
    if isinstance(rope := config.get("rope_parameters"), dict):
        yield "rope_parameters.", rope


def _repeated(config: Mapping[str, Any]) -> Iterator[Outcome]:
    vision = config.get("vision_config")
    for key in REPEATED:
        inner = vision.get(key) if isinstance(vision, dict) else None
        if inner is not None and config.get(key) is not None and config[key] != inner:
            yield fatal(
                f"{key} is {config[key]} at the top of config.json and {inner} in vision_config",
                {"setting": key, "top": config[key], "vision_config": inner},
                "The tower is built with one and used with the other: pictures are read wrongly.",
                RESTORE,
            )


def _dtype(config: Mapping[str, Any]) -> Iterator[Outcome]:
    for key in ("dtype", "torch_dtype"):
        value = config.get(key)
        if value is not None and (not isinstance(value, str) or value.removeprefix("torch.") not in DTYPES):
            yield fatal(
                f"{key} is {value!r}, which is no type of weights",
                {"setting": key, "value": str(value)[:80]},
                "Loading fails, or the weights are cast to a default.",
                'Write "dtype": "bfloat16", or whatever the tensors are stored in.',
            )


def _quantisation(base: BaseFacts, config: Mapping[str, Any]) -> Iterator[Outcome]:
    """A declared quantisation and packed tensors belong together."""
    text = config.get("text_config")
    declared = config.get("quantization_config") or (isinstance(text, dict) and text.get("quantization_config"))
    packed = [name for name, one in base.tensors.items() if PACKED.search(name) or one.dtype in PACKED_TYPES]
    if declared and base.tensors and not packed:
        method = declared.get("quant_method") if isinstance(declared, dict) else declared
        yield fatal(
            f"config.json declares quantised weights ({method}), but every tensor is stored in full",
            {"quantization_config": str(declared)[:200], "tensors": len(base.tensors)},
            "Loading fails or quantises once more; what was merged on a quantised base differs from what was mounted.",
            "Remove quantization_config from config.json; merge onto the full-precision base.",
        )
    if packed and not declared:
        yield fatal(
            f"{len(packed)} tensor(s) are quantised, first {packed[0]} ({base.tensors[packed[0]].dtype}), but "
            "config.json has no quantization_config",
            {"tensors": packed[:20], "count": len(packed)},
            "Packed numbers are read as weights, or loading fails.",
            "Copy quantization_config from the quantised base's config.json, or merge onto the full-precision base.",
        )


def _version(base: BaseFacts, config: Mapping[str, Any]) -> Iterator[Outcome]:
    """`version` chooses the code for MiniCPM-V 2.6, 4.0 and 4.5; their language parts have different tensors."""
    if config.get("model_type") not in OWN_LISTS or not base.tensors:
        return
    version, stored = config.get("version"), stored_version(base.tensors, config)
    if lost := lost_norms(base, config):
        yield fatal(
            f"{len(lost)} tensors of the language part are missing, first {lost[0]}, which version 4.5 "
            "has and 4.0 has not; the rest of config.json is 4.5's",
            {"tensors": lost[:50], "count": len(lost), "version": version},
            "Queries and keys are not normalised: loading is refused, or answers are garbage.",
            "Copy the weights again from where they were trained, or train again: version 4.0 would be no repair.",
        )
    elif stored is None:
        yield from _unproved_version(base, config)
    elif version is None:
        yield fatal(
            "config.json has no version, which tells the generations of MiniCPM-V apart; the language part has the "
            f"tensors of {stored}, not of 2.0 or 2.5, which have none and are not served",
            {"tensors_of": stored},
            "Servers take another generation's code: pictures are cut and marked as the model never saw them.",
            f'Write "version": {stored} into config.json, as in the base model.',
        )
    elif version_of(config) != f"{stored}":
        yield fatal(
            f"config.json has version {version!r}, but the language part has the tensors of {stored}",
            {"version": version, "tensors_of": stored},
            "Servers take another generation's code: loading fails, or pictures and turns are marked wrongly.",
            f'Write "version": {stored} into config.json, as in the base model.',
        )


def _unproved_version(base: BaseFacts, config: Mapping[str, Any]) -> Iterator[Outcome]:
    """Tensors of 4.0, 2.5 and 2.0 have the same names; `served_model` says where config.json names no later version."""
    version = config.get("version")
    if version is None or version_of(config) == "4.0" or not has_language_model(base):
        return
    yield fatal(
        f"config.json has version {version!r}, but the language part has neither norms of queries, which 4.5 has, nor "
        "biases, which 2.6 has",
        {"version": version},
        "Servers take another generation's code: loading fails, or pictures and turns are marked wrongly.",
        "Take config.json from the checkpoint that this one was tuned from; 2.0 and 2.5, which have such tensors too, "
        "are not served.",
    )


def _canvas(base: BaseFacts, config: Mapping[str, Any]) -> Iterator[Outcome]:
    """MiniCPM-V 4.7 lays pictures on a canvas of positions between five markers."""
    if base.model_type not in MRO_TYPES:
        return
    lost = [key for key in MRO_KEYS if config.get(key) is None]
    if lost:
        yield fatal(
            f"config.json has no {', '.join(lost)}, without which {base.model_type} cannot place pictures",
            {"missing": lost},
            "Requests with a picture fail, or pictures get the positions of plain text.",
            "Copy these ids from the base model's config.json.",
        )


CHECK = Check(
    "model_config",
    "config.json is the config of this model, and all of it is read",
    of_base=base_model_config,
    why="""\
`config.json` is rewritten by every export: through `AutoModel`, which writes the class without a head into
`architectures`; by another major version, which spells rotary settings in a way that the server may not read
(`rope_theta` against `rope_parameters`); by a merge on a quantised base, which leaves a `quantization_config` over
full weights. What the class does not read it replaces by a default without a word, and only shapes would betray it.

Looked at: the model type and the code that it needs, the class, rotary settings and where they stand, values that no
model has, an activation or a sliding window that no release of the kind has, settings that are repeated with other
values, the type of the weights, the declared quantisation, the `version` of MiniCPM-V 2.6 to 4.5 against the kind of
language model that is stored, and the markers of 4.7's picture canvas. Other spellings of equal settings
(`torch_dtype`, `rope_theta` alone) are no finding.

Source: transformers 5.23, `PreTrainedConfig`; vLLM 0.32 `minicpmv.py`; MiniCPM#186, MiniCPM#241,
LLaMA-Factory#8501.""",
)
