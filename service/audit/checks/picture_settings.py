"""Checks of what turns pictures into patches: processor files against the model's config and against each other.

Knows no token ids; `special_ids` does.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from service.audit.check import AdapterView, BaseView, Check, Outcome, fatal, warning
from service.audit.older_minicpmv import TOWER
from service.audit.settings_diff import picture_differences
from service.domain.facts import BaseFacts

PROCESSOR, IMAGE, VIDEO = "processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"
SCALED = ("minicpmv", "minicpmv4_6", "minicpmv4_7")
APART, MOST_APART = 1.25, 2
"""Times that the sides of a slice differ to be worth saying, and so that no answer about them is to be trusted.

Training at a somewhat other scale is common. Untrained, the demo answers 36 of 60 at twice its scale, 26 at half of it
and 43 at 1.5 times, instead of 59.
"""
MODES = ("4x", "16x")
RESTORE = "Copy the processor files from the base model, and keep only what training changed on purpose."
UNSEEN = "Pictures reach the model as it never saw them in training: answers about them are wrong."
COUNT = "The prompt holds another number of picture places than the model has features: requests with pictures fail."


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known about a model type's processor.

    Attributes:
        processor: Its class.
        image: The class that cuts pictures, without the ending `Fast` or `Pil`.
        mode: `downsample_mode` where a file says nothing: of the processor and of the model.
        mean: What pixel values are centred on and divided by.
        needs_video: It does not start without settings for videos.
    """

    processor: str
    image: str
    mode: tuple[str, str] | None = None
    mean: float = 0.5
    needs_video: bool = True


KINDS = {
    "minicpmv4_6": Kind("MiniCPMV4_6Processor", "MiniCPMV4_6ImageProcessor", ("16x", "16x")),
    "minicpmv4_7": Kind("MiniCPMV4_7Processor", "MiniCPMV4_6ImageProcessor", ("16x", "16x")),
    "minicpm_ocr": Kind("MiniCPMOcrProcessor", "MiniCPMOcrImageProcessor", ("4x", "4x")),
    "minicpmv": Kind("MiniCPMVProcessor", "MiniCPMVImageProcessor", needs_video=False),
}
"""Source: transformers 5.23, `processing_*.py`; for `minicpmv` the official checkpoints."""


def base_picture_settings(view: BaseView) -> Iterator[Outcome]:
    """Compare the processor's settings with the model's."""
    base = view.base
    config = base.documents.get("config.json", {})
    vision = config.get("vision_config")
    if not isinstance(vision, dict) or any(one.file in (PROCESSOR, IMAGE, VIDEO) for one in base.problems):
        return
    kind = KINDS.get(base.model_type)
    image, video = _effective(base)
    yield from _contradictions(base)
    if kind and (image is not None or PROCESSOR in base.documents):
        yield from _whole(kind, image, video, base)
        yield from _processor_classes(kind, image, base)
    for name, part in (("image", image), ("video", video if video is not image else None)):
        if part:
            yield from _values(part, name)
            yield from _patches(part, vision, name)
            if kind:
                yield from _normalisation(part, kind, name)
                yield from _mode(part, config, kind, name)
    if image and base.model_type in SCALED and view.origin is None:  # whose scale `origin` compares
        yield from _scale(image, config)
    if image and base.model_type == "minicpmv":
        yield from _queries(image, config, base)


def adapter_picture_settings(view: AdapterView) -> Iterator[Outcome]:
    """Compare the processor's files that a trainer left with the adapter with the base's, which are served."""
    if view.base.model_type not in KINDS:
        return
    differing = picture_differences(view.adapter.documents, view.base.documents, with_pixels=True)
    for weight, rule in (("decides", fatal), ("matters", warning)):
        found = {key: one.values for key, one in differing.items() if one.weight == weight}
        if found:
            shown = ", ".join(f"{key} {old} and is served with {new}" for key, (old, new) in list(found.items())[:5])
            yield rule(
                f"the processor's files beside the adapter say that it was trained with {shown}",
                {"settings": {key: [str(old)[:60], str(new)[:60]] for key, (old, new) in found.items()}},
                UNSEEN
                if weight == "decides"
                else "Large pictures are cut otherwise than in training: details are lost.",
                "Serve the adapter on a copy of the base with the values of its training in the processor's files; if "
                "it was trained with the base's, delete the files beside the adapter.",
            )


def _effective(base: BaseFacts) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """Return the settings that transformers takes for pictures and videos: nested ones before files of their own."""
    whole = base.documents.get(PROCESSOR, {})
    alone = base.documents.get(IMAGE)
    nested, nested_video = whole.get("image_processor"), whole.get("video_processor")
    image = nested if isinstance(nested, dict) else alone
    if isinstance(nested_video, dict):
        return image, nested_video
    return image, base.documents.get(VIDEO, alone)


def _contradictions(base: BaseFacts) -> Iterator[Outcome]:
    """Settings in two files must be the same: which file is read depends on the library's version."""
    whole = base.documents.get(PROCESSOR, {})
    for key, file in (("image_processor", IMAGE), ("video_processor", VIDEO)):
        nested, alone = whole.get(key), base.documents.get(file)
        if not isinstance(nested, dict) or not alone:
            continue
        differing = {one for one in nested.keys() & alone.keys() if _plain(nested[one]) != _plain(alone[one])}
        differing -= {"image_processor_type", "video_processor_type", "processor_class", "auto_map", "size"}
        if differing:
            shown = ", ".join(f"{one} {nested[one]} and {alone[one]}" for one in sorted(differing)[:3])
            yield warning(
                f"{PROCESSOR} and {file} disagree: {shown}",
                {"settings": {one: [nested[one], alone[one]] for one in sorted(differing)}},
                "transformers 5 reads the first, older libraries and other servers the second: pictures are cut "
                "differently depending on the server.",
                "Keep the values of training in both, or delete the file that is left over.",
            )


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _whole(
    kind: Kind, image: Mapping[str, Any] | None, video: Mapping[str, Any] | None, base: BaseFacts
) -> Iterator[Outcome]:
    if not image:
        yield fatal(
            f"{PROCESSOR} has no image_processor, and there is no {IMAGE}",
            {"files": sorted(base.files)[:50]},
            "The processor cannot start, so no request is answered.",
            RESTORE,
        )
    elif not video and kind.needs_video:
        yield fatal(
            f"{PROCESSOR} has no video_processor, and there is no {VIDEO}",
            {"files": sorted(base.files)[:50]},
            f"{kind.processor} cannot start, so no request is answered.",
            RESTORE,
        )


def _processor_classes(kind: Kind, image: Mapping[str, Any] | None, base: BaseFacts) -> Iterator[Outcome]:
    named = (base.documents.get(PROCESSOR, {}) or image or {}).get("processor_class") or (image or {}).get(
        "processor_class"
    )
    if named is not None and named != kind.processor:
        yield fatal(
            f"processor_class is {named}, but {base.model_type} is served with {kind.processor}",
            {"processor_class": str(named), "expected": kind.processor},
            "The processor does not start, or marks pictures in the way of another model.",
            f'Write "processor_class": "{kind.processor}", or copy the processor files from the base model.',
        )
    cutter = (image or {}).get("image_processor_type")
    if cutter is not None and str(cutter).removesuffix("Fast").removesuffix("Pil") != kind.image:
        yield fatal(
            f"image_processor_type is {cutter}, but {base.model_type} cuts pictures with {kind.image}",
            {"image_processor_type": str(cutter), "expected": kind.image},
            "The processor does not start, or cuts pictures in the way of another model.",
            RESTORE,
        )


def _values(part: Mapping[str, Any], name: str) -> Iterator[Outcome]:
    """Look for values with which no picture can be read, or only by chance."""
    wrong = {
        key: part[key] for key in part if (test := TESTS.get(key)) and part[key] is not None and not test(part[key])
    }
    wrong |= {key: part[key] for key in ("image_std", "norm_std") if key in part and _has_zero(part[key])}
    if wrong:
        yield fatal(
            f"the {name} processor's {', '.join(f'{key} is {value!r}' for key, value in wrong.items())[:300]}",
            {"settings": {key: str(value)[:80] for key, value in wrong.items()}},
            "Requests with pictures fail, or every picture looks the same.",
            RESTORE,
        )


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_channels(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return len(values) in (1, 3) and all(_is_finite(one) for one in values)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_near(value: Any, wanted: float, tolerance: float = 0.01) -> bool:
    return all(math.isclose(one, wanted, abs_tol=tolerance) for one in (value if isinstance(value, list) else [value]))


def _has_zero(value: Any) -> bool:
    return any(one == 0 for one in (value if isinstance(value, list) else [value]))


TESTS: dict[str, Callable[[Any], bool]] = {
    "patch_size": _is_positive,
    "scale_resolution": _is_positive,
    "max_slice_nums": _is_positive,
    "image_feature_size": _is_positive,
    "image_mean": _is_channels,
    "image_std": _is_channels,
    "norm_mean": _is_channels,
    "norm_std": _is_channels,
    "resample": lambda value: _is_finite(value) and value in range(6),
    "slice_mode": lambda value: isinstance(value, bool),
    "use_image_id": lambda value: isinstance(value, bool),
}


def _patches(part: Mapping[str, Any], vision: Mapping[str, Any], name: str) -> Iterator[Outcome]:
    mine, needed = part.get("patch_size"), vision.get("patch_size")
    if _is_positive(mine) and _is_positive(needed) and mine != needed:
        yield fatal(
            f"the {name} processor cuts patches of {mine} pixels, the vision tower takes {needed}",
            {"processor": mine, "vision_config": needed},
            "The tower fails on every picture, or reads shifted patches.",
            f"Write patch_size {needed} into the processor's file.",
        )


def _scale(part: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Outcome]:
    """Pictures are cut to squares of the size that config.json has at its top, in every official folder."""
    vision: Mapping[str, Any] = config["vision_config"]
    side: Any = part.get("scale_resolution")
    size: Any = config.get("image_size")
    patch: Any = vision.get("patch_size")
    is_official = vision.get("image_size") == TOWER["image_size"]
    if is_official or not all(_is_positive(one) for one in (side, size, patch)) or side < patch:
        return  # `minicpmv` says so of the official tower, and of slices that are smaller than a patch
    times = max(side, size) / min(side, size)
    if times >= APART:
        yield (fatal if times >= MOST_APART else warning)(
            f"scale_resolution is {side} in the processor's file; config.json's image_size is {size}, and every "
            "official folder has the same number in both",
            {"scale_resolution": side, "image_size": size},
            "Pictures are cut at another scale than in training, unless it changed one of them: details are lost, or "
            "the model sees patches at places that it does not know.",
            f"Write {size} into scale_resolution, or {side} into image_size if pictures were cut so in training.",
        )


def _normalisation(part: Mapping[str, Any], kind: Kind, name: str) -> Iterator[Outcome]:
    """All towers of the family read values from -1 to 1."""
    off = {key: part[key] for key in ("do_rescale", "do_normalize", "do_resize") if part.get(key) is False}
    factor: Any = part.get("rescale_factor")
    if _is_finite(factor) and not math.isclose(factor, 1 / 255, rel_tol=1e-3):
        off["rescale_factor"] = factor
    if off.keys() == {"do_rescale"} and _is_scaled_by_norm(part, kind):
        return
    for key in ("image_mean", "image_std", "norm_mean", "norm_std"):
        value: Any = part.get(key)
        if value is not None and _is_channels(value) and not _is_near(value, kind.mean):
            off[key] = value
    if off:
        yield fatal(
            f"the {name} processor's {', '.join(f'{key} is {value}' for key, value in off.items())}: the tower was "
            f"trained on values from -1 to 1 (mean and deviation {kind.mean})",
            {"settings": off},
            UNSEEN,
            RESTORE,
        )


def _is_scaled_by_norm(part: Mapping[str, Any], kind: Kind) -> bool:
    """Say whether mean and deviation are those of values from 0 to 255, which comes to the same as rescaling."""
    values: list[Any] = [part.get(key) for key in ("image_mean", "image_std")]
    return all(_is_channels(one) and _is_near(one, 255 * kind.mean, tolerance=1.0) for one in values)


def _mode(part: Mapping[str, Any], config: Mapping[str, Any], kind: Kind, name: str) -> Iterator[Outcome]:
    """Processor and model must merge patches alike: the first counts places, the second makes features."""
    if kind.mode is None:
        return
    mine, needed = part.get("downsample_mode", kind.mode[0]), config.get("downsample_mode", kind.mode[1])
    if (mine == "4x") != (needed == "4x"):
        yield fatal(
            f"the {name} processor has downsample_mode {mine}, the model {needed}",
            {"processor": mine, "model": needed},
            COUNT,
            "Write the mode of training into config.json and into the processor's file.",
        )
    elif unknown := [one for one in (mine, needed) if one not in MODES]:
        yield warning(
            f"downsample_mode {unknown[0]!r} of the {name} processor or the model is neither 4x nor 16x",
            {"processor": mine, "model": needed},
            "This version of transformers takes it for 16x; another one may not.",
            'Write "16x", or "4x" if the model was trained so, into config.json and the processor\'s file.',
        )


def _queries(image: Mapping[str, Any], config: Mapping[str, Any], base: BaseFacts) -> Iterator[Outcome]:
    """The resampler gives `query_num` features for every slice; the processor makes room for `image_feature_size`."""
    mine, needed = image.get("image_feature_size", 64), config.get("query_num", 64)
    query = base.tensors.get("resampler.query")
    stored = query.shape[0] if query and query.shape else needed
    if mine not in (needed, stored):  # where it fits the tensor, weights_complete says that query_num does not
        yield fatal(
            f"the processor makes room for {mine} features a slice (image_feature_size), the model has {needed} "
            "(query_num)",
            {"image_feature_size": mine, "query_num": needed},
            COUNT,
            f"Write image_feature_size {stored}, as the resampler has {stored} queries: minicpm-service repair."
            if stored == needed
            else RESTORE,
        )
    slices = config.get("slice_config")
    declared = slices if isinstance(slices, dict) else {}
    for key in ("max_slice_nums", "scale_resolution"):
        if declared.get(key) is not None and not _is_positive(declared[key]):
            yield warning(
                f"{key} is {str(declared[key])[:40]} in config.json's slice_config, which is no number of anything",
                {"setting": key, "slice_config": str(declared[key])[:80], "processor": image.get(key)},
                "This service cuts by the processor's file; servers that follow config.json fail, or cut no picture.",
                f"Write the processor's value ({image.get(key)}) there.",
            )
        if _is_positive(declared.get(key)) and _is_positive(image.get(key)) and declared[key] != image[key]:
            yield warning(
                f"{key} is {image[key]} in the processor's file and {declared[key]} in config.json's slice_config",
                {"setting": key, "processor": image[key], "slice_config": declared[key]},
                "Pictures are cut otherwise than in training: small print is lost.",
                "Write the value of training into both.",
            )
    for key in ("use_image_id", "slice_mode"):
        if isinstance(config.get(key), bool) and isinstance(image.get(key), bool) and config[key] != image[key]:
            yield warning(
                f"{key} is {image[key]} in the processor's file and {config[key]} in config.json",
                {"setting": key, "processor": image[key], "config": config[key]},
                "Pictures are marked in prompts otherwise than in training.",
                "Write the value of training into both.",
            )


CHECK = Check(
    "picture_settings",
    "Pictures are cut, counted and normalised as the model takes them",
    of_base=base_picture_settings,
    of_adapter=adapter_picture_settings,
    why="""\
The processor cuts a picture into patches and writes as many placeholders into the prompt as the model will make
features. Both sides have settings of their own: `patch_size`, `downsample_mode` (4.6, 4.7, OCR),
`image_feature_size` against `query_num` and the resampler's rows (2.6 to 4.5). Where they differ, requests fail
with "features and tokens do not match", or features land in the wrong places. `do_normalize`, mean and deviation
from another family (CLIP's instead of 0.5) change every pixel and fail nothing.

transformers 4 and 5 split these settings differently over `preprocessor_config.json`,
`video_preprocessor_config.json` and `processor_config.json`; that split, and the endings `Fast` and `Pil` of class
names, are no finding. Files that contradict each other are.

The base's files are served with every adapter. Those that a trainer left beside an adapter say how it saw pictures: on
the demo, a resolution other than that of training, or slices that it never saw, cost 44 to 70 of 118 right answers.

Source: transformers 5.23, `processing_minicpmv4_6.py`; vLLM 0.32 `minicpmv.py`; MiniCPM-V#1115, vllm#6934.""",
)
