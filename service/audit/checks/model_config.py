"""Check of config.json by itself: do its fields name the model that the tensors are of.

Knows no token id and no row.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from service.audit.check import BaseView, Check, Outcome, fatal, warning
from service.domain.facts import BaseFacts

CONFIG = "config.json"
MINICPMV = "minicpmv"
VERSIONS = (2.0, 2.5, 2.6, 4.0, 4.5)
RESTORE = "Copy config.json from the base model, and change only what training changed."
GENERATING = ("ForCausalLM", "ForConditionalGeneration", "ForImageTextToText", "LMHeadModel")
WHY = """\
config.json decides what the tensors mean. Saving through a generic class writes `MiniCPM3Model` instead of
`MiniCPM3ForCausalLM` and drops the head (MiniCPM#186, #241); merging loses `version`, so that MiniCPM-V 2.6 is read as
2.5; `query_num` decides how many placeholders stand for a picture; `drop_vision_last_layer` is true where it is left
out, though every official file says false; two spellings of the rotary base that disagree are read by each server in
its own way."""


def base_model_config(view: BaseView) -> Iterator[Outcome]:
    """Look at the fields that decide how the weights are used."""
    config = view.base.documents.get(CONFIG, {})
    if not config:
        return  # files says that it is missing or cannot be read
    yield from _is_known(config, view.base)
    yield from _class_generates(config, view.base)
    yield from _rope_is_said_once(config)
    yield from _quantisation_fits(config, view.base)
    if config.get("model_type") == MINICPMV:
        yield from _minicpmv(config, view.base)


def _is_known(config: Mapping[str, Any], base: BaseFacts) -> Iterator[Outcome]:
    if base.is_native or "auto_map" in config:
        return
    yield fatal(
        f"model_type is {config.get('model_type')!r}, which transformers does not know, and no code comes with it",
        {"model_type": config.get("model_type")},
        "No class can be built: loading fails.",
        RESTORE,
    )


def _class_generates(config: Mapping[str, Any], base: BaseFacts) -> Iterator[Outcome]:
    named = config.get("architectures")
    known = base.blueprint.classes if base.blueprint else ()
    if not isinstance(named, list) or not named or not known:
        return
    if not any(isinstance(one, str) and (one in known or one.endswith(GENERATING)) for one in named):
        yield fatal(
            f"architectures is {named}, which writes no text; {config.get('model_type')} needs {known[0]}",
            {"architectures": named, "expected": list(known)},
            "Servers that go by it refuse the folder, and a model saved through this class has no output head.",
            f'Write "architectures": ["{known[0]}"], if the head is in the files; else save the model again.',
        )
    elif not set(named) & set(known):
        yield warning(
            f"architectures is {named}, but {config.get('model_type')} is served by {', '.join(known)}",
            {"architectures": named, "expected": list(known)},
            "Servers that go by the class build another model from the same weights.",
            f'Write "architectures": ["{known[0]}"].',
        )


def _rope_is_said_once(config: Mapping[str, Any]) -> Iterator[Outcome]:
    for name, part in (("", config), ("text_config.", config.get("text_config"))):
        if not isinstance(part, dict) or not isinstance(rope := part.get("rope_parameters"), dict):
            continue
        old, new = part.get("rope_theta"), rope.get("rope_theta")
        if old is not None and new is not None and old != new:
            yield fatal(
                f"{name}rope_theta is {old}, {name}rope_parameters.rope_theta is {new}",
                {"rope_theta": old, "rope_parameters": new},
                "Each server reads one of them: with the wrong one every position is off and answers are garbage.",
                "Keep the value of the base in rope_parameters, and drop the other.",
            )


def _quantisation_fits(config: Mapping[str, Any], base: BaseFacts) -> Iterator[Outcome]:
    if "quantization_config" not in config or not base.tensors:
        return
    whole = ("F64", "F32", "F16", "BF16")
    packed = sum(one.dtype not in whole for one in base.tensors.values())
    if not packed:
        yield fatal(
            f"config.json declares quantised weights, but all {len(base.tensors)} tensors are whole numbers of bits: "
            f"{sorted({one.dtype for one in base.tensors.values()})}",
            {"quantization_config": config["quantization_config"]},
            "Loading packs weights that were merged unpacked, or fails.",
            "Drop quantization_config from config.json if the weights were saved after dequantising.",
        )


def _minicpmv(config: Mapping[str, Any], base: BaseFacts) -> Iterator[Outcome]:
    """The flat configs of MiniCPM-V 2.6, 4.0 and 4.5."""
    version = config.get("version")
    if version is None or str(version) not in {str(one) for one in VERSIONS}:
        yield fatal(
            f"version is {version!r}; {MINICPMV} needs one of {', '.join(map(str, VERSIONS))}",
            {"version": version},
            "Servers choose by it how pictures are cut and marked: without it they take the oldest way.",
            "Write the version of the base model into config.json.",
        )
    queries = next((one for name, one in base.tensors.items() if name.endswith("resampler.query")), None)
    declared = config.get("query_num")
    features = base.documents.get("preprocessor_config.json", {}).get("image_feature_size")
    for source, number in (
        ("config.json: query_num", declared),
        ("preprocessor_config.json: image_feature_size", features),
    ):
        if queries and number is not None and number != queries.shape[0]:
            yield fatal(
                f"{source} is {number}, but resampler.query has {queries.shape[0]} rows",
                {"source": source, "declared": number, "rows": queries.shape[0]},
                "A picture gets another number of placeholders than of features: requests fail or features misalign.",
                f"Write {queries.shape[0]} there.",
            )
            return
    if config.get("drop_vision_last_layer") is not False:
        yield fatal(
            f"drop_vision_last_layer is {config.get('drop_vision_last_layer', 'left out, which means true')}",
            {"drop_vision_last_layer": config.get("drop_vision_last_layer")},
            "The last layer of the vision tower is left out: every official model of this type uses it.",
            'Write "drop_vision_last_layer": false into config.json.',
        )


CHECK = Check("model_config", "config.json names the model that the tensors are of", base_model_config, why=WHY)
