"""Judges the context that config.json gives: do the shortest prompts fit, and pictures of full size.

Knows no position; `model_config.py` looks at how they turn.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from service.audit.check import Outcome, fatal, warning
from service.audit.older_minicpmv import config_of
from service.domain.facts import BaseFacts

SETTING = "max_position_embeddings"
FILES = ("processor_config.json", "preprocessor_config.json")
MODES = {"minicpmv4_6": "16x", "minicpmv4_7": "16x", "minicpm_ocr": "4x"}
"""`downsample_mode` where a file says nothing. Source: transformers 5.23, `image_processing_*.py`."""
DIVISORS = {"4x": 4, "16x": 16}
NUM_MARKERS = 5
"""Around a picture: one that opens it, one that closes it, and its number between two."""
NUM_SLICE_MARKERS = 3
"""Around a slice: one that opens it, one that closes it, and a line break."""
SHORT_ANSWER = 64
LEAST = 256
"""Tokens of prompt and answer that every use needs."""
RESTORE = (
    f"Copy {SETTING} from the base model's config.json; to use less memory set MINICPM_CACHE_MEMORY, which changes no "
    "file."
)


def context_is_wide(base: BaseFacts, text: Mapping[str, Any]) -> Iterator[Outcome]:
    """Compare the context with the prompts of a short question, about a small picture and about a large one.

    Args:
        base: The folder.
        text: Settings of the language model, as the class reads them.
    """
    context = text.get(SETTING)
    place = f"text_config.{SETTING}" if isinstance(base.documents["config.json"].get("text_config"), dict) else SETTING
    if context is None or base.template is None or base.template.error:
        return
    if not isinstance(context, int) or isinstance(context, bool) or context < 1:
        if not config_of(base):  # `minicpmv` says so
            yield fatal(
                f"{place} is {context!r}, which is no number of tokens",
                {"setting": place, "value": str(context)[:80]},
                "The engine cannot tell how long a prompt may be: it does not start, or refuses every request.",
                RESTORE,
            )
        return
    picture = _picture_tokens(base)
    prompt = _prompt_tokens(base, with_picture=picture is not None)
    if prompt is None:
        return
    features, slices = picture or (0, 0)
    marks = NUM_MARKERS if picture else 0
    least, most = prompt + features + marks, prompt + (features + NUM_SLICE_MARKERS) * slices + features + marks
    evidence = {"setting": place, "value": context, "least_prompt": least, "largest_picture": most}
    what = f"a short question about one small picture ({features} of them for the picture)" if picture else "a greeting"
    if context <= least:
        yield fatal(
            f"{place} is {context}: a context of {context} tokens for prompt and answer together, and {what} takes "
            f"{least} tokens",
            evidence,
            "Every request is refused as too long" + (" that has a picture." if context > prompt and picture else "."),
            RESTORE,
        )
    elif context < max(LEAST, most + SHORT_ANSWER):
        large = f", and a question about one large picture takes {most}" if slices else ""
        yield warning(
            f"{place} is {context}: a context of {context} tokens for prompt and answer together{large}; the model "
            "was made for thousands",
            evidence,
            "Large pictures and longer conversations are refused as too long, and answers are cut off.",
            RESTORE,
        )


def _prompt_tokens(base: BaseFacts, *, with_picture: bool) -> int | None:
    """Count the prompt of a short question, without what stands for a picture."""
    known = base.template.conversations if base.template else {}
    asked = known.get("picture") if with_picture else None
    ids = asked or known.get("question")
    return len(ids) - (1 if asked else 0) if ids else None


def _picture_tokens(base: BaseFacts) -> tuple[int, int] | None:
    """Return the features of a whole picture, and the slices of a large one; None if the model sees none.

    Pictures are scaled to about the square of `scale_resolution`, and slices too.
    """
    settings = _image_settings(base)
    slices = _positive(settings.get("max_slice_nums"), 9) if settings.get("slice_mode", True) else 1
    slices = slices if slices > 1 else 0
    if config := config_of(base):
        return _positive(config.get("query_num"), 64), slices
    if base.model_type not in MODES:
        return None
    mode = settings.get("downsample_mode") or MODES[base.model_type]
    side, patch = _positive(settings.get("scale_resolution"), 448), _positive(settings.get("patch_size"), 14)
    return max(1, (side // patch) ** 2 // DIVISORS.get(str(mode), 16)), slices


def _image_settings(base: BaseFacts) -> Mapping[str, Any]:
    nested = base.documents.get(FILES[0], {}).get("image_processor")
    return nested if isinstance(nested, dict) else base.documents.get(FILES[1], {})


def _positive(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default
