"""Check of how pictures are cut: the processor's files against the model, and against the origin's.

Knows no token id.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from service.audit.check import BaseView, Check, Outcome, fatal, warning
from service.domain.facts import BaseFacts

PROCESSOR, IMAGES = "processor_config.json", "preprocessor_config.json"
CLASSES = {
    "minicpmv4_6": "MiniCPMV4_6",
    "minicpmv4_7": "MiniCPMV4_7",
    "minicpm_ocr": "MiniCPMOcr",
    "minicpmv": "MiniCPMV",
}
"""How names of a model type's processor classes begin. 4.7 takes the image processor of 4.6."""
MODES = {"4x": 4, "16x": 16}
CHOICES = frozenset({"max_slice_nums", "scale_resolution", "use_image_id", "slice_mode"})
"""Settings that an operator may have changed on purpose."""
FREE = frozenset(
    {"processor_class", "image_processor_type", "feature_extractor_type", "auto_map", "version", "im_start"}
)
RESTORE = "Copy the processor files from the base model: minicpm-service repair."
WHY = """\
The processor cuts a picture into slices and patches and writes one placeholder for every feature that the model will
make of them. Both sides must count alike: `patch_size` and `downsample_mode` stand in the processor's files and in
config.json, and where one was changed alone, requests fail or features land on the wrong places. Normalisation and
resolution cannot be counted; they are compared with the origin's. Re-saving and merging lose these files
(MiniCPM-V#408, vllm#6934)."""


def base_picture_settings(view: BaseView) -> Iterator[Outcome]:
    """Compare the processor's settings with config.json and with the origin's."""
    base = view.base
    settings = image_settings(base)
    config = base.documents.get("config.json", {})
    if base.model_type not in CLASSES or not any(base.documents.get(one) for one in (PROCESSOR, IMAGES)):
        return
    if not settings:
        yield fatal(
            f"{PROCESSOR} holds no image_processor, and there is no {IMAGES}",
            {"keys": sorted(base.documents.get(PROCESSOR, {}))[:20]},
            "The processor cannot start, so no picture can be read and loading fails.",
            RESTORE,
        )
        return
    yield from _class_fits(base, settings)
    yield from _counts_agree(settings, config, base)
    if view.origin:
        yield from _same_as_origin(settings, image_settings(view.origin.base))


def image_settings(base: BaseFacts) -> Mapping[str, Any]:
    """Return the settings of the image processor, from whichever file holds them."""
    nested = base.documents.get(PROCESSOR, {}).get("image_processor")
    return nested if isinstance(nested, dict) else base.documents.get(IMAGES, {})


def _class_fits(base: BaseFacts, settings: Mapping[str, Any]) -> Iterator[Outcome]:
    start = CLASSES[base.model_type]
    named = {
        f"{PROCESSOR}: processor_class": base.documents.get(PROCESSOR, {}).get("processor_class"),
        f"{IMAGES}: processor_class": base.documents.get(IMAGES, {}).get("processor_class"),
        "image_processor_type": settings.get("image_processor_type"),
    }
    family = (start, "MiniCPMV")
    for source, name in named.items():
        if isinstance(name, str) and not name.startswith(family if base.is_native else start):
            yield fatal(
                f"{source} is {name}, but {base.model_type} is read by {start}Processor",
                {"source": source, "found": name, "expected": f"{start}Processor"},
                "Pictures are cut as another model wants them: requests fail or features misalign.",
                RESTORE,
            )
            return


def _counts_agree(settings: Mapping[str, Any], config: Mapping[str, Any], base: BaseFacts) -> Iterator[Outcome]:
    vision = config.get("vision_config")
    vision = vision if isinstance(vision, dict) else {}
    patch = vision.get("patch_size") or config.get("patch_size")
    modes = settings.get("downsample_mode"), config.get("downsample_mode")
    if patch is not None and settings.get("patch_size") not in (None, patch):
        yield _disagree("patch_size", settings["patch_size"], patch)
    if modes[0] is not None and modes[1] is not None and modes[0] != modes[1]:
        yield _disagree("downsample_mode", *modes)
    elif base.is_native and modes[0] is not None and modes[0] not in MODES:
        yield fatal(
            f"downsample_mode is {modes[0]!r}, known are {', '.join(MODES)}",
            {"downsample_mode": modes[0]},
            "The processor counts placeholders by it: requests with pictures fail.",
            RESTORE,
        )


def _disagree(name: str, found: object, expected: object) -> Outcome:
    return fatal(
        f"the processor's {name} is {found}, config.json's is {expected}",
        {"setting": name, "processor": found, "model": expected},
        "A picture gets another number of placeholders than of features: requests with pictures fail.",
        f"Write the {name} that training used into both files.",
    )


def _same_as_origin(settings: Mapping[str, Any], origin: Mapping[str, Any]) -> Iterator[Outcome]:
    changed = {
        name: {"found": settings.get(name), "expected": value}
        for name, value in origin.items()
        if name not in FREE and name in settings and settings[name] != value
    }
    if changed:
        name, values = next(iter(changed.items()))
        is_choice = changed.keys() <= CHOICES
        yield (warning if is_choice else fatal)(
            f"{len(changed)} picture setting(s) differ from the origin's, first {name}: {values['found']} instead of "
            f"{values['expected']}",
            {"settings": changed},
            "Pictures reach the model in another form than in training: detail is lost or colours are off.",
            "Restore the values that training used: " + RESTORE,
        )


CHECK = Check(
    "picture_settings", "Pictures are cut as the model was trained to see them", base_picture_settings, why=WHY
)
