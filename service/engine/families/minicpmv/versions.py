"""Says which config.json of `model_type` minicpmv this service can build, and refuses the others with the reason.

Knows names and sizes only; imports neither torch nor transformers.
"""

from collections.abc import Mapping
from typing import Any

from service.domain.minicpmv import HEAD_SIZE, MODEL_TYPE, NEEDED, NEEDED_OF_VISION, NEEDS_THETA
from service.errors import CheckpointUnsupported

LANGUAGES = {"2.6": "qwen2", "4.0": "llama", "4.5": "qwen3"}
"""transformers' `model_type` of the language model, by version. Source: the official config.json of each."""
OLD_PROMPTS = (
    "puts slices into its prompt in another way; use MiniCPM-V 2.6, 4.0, 4.5 or later, or serve it with vLLM 0.32"
)


def version_of(config: Mapping[str, Any]) -> str:
    """Return `2.6`, `4.0` or `4.5`.

    Raises:
        CheckpointUnsupported: It is another version, or the config does not say.
    """
    given = config.get("version")
    if given is None:
        raise CheckpointUnsupported(_unversioned(config))
    try:
        version = f"{float(given):.1f}"
    except (TypeError, ValueError):
        version = str(given)
    if version not in LANGUAGES:
        raise CheckpointUnsupported(
            f"config.json: version is {given!r} for model_type {MODEL_TYPE!r}, which this service serves as "
            f"{', '.join(LANGUAGES)}; correct the field if the weights are of one of these"
        )
    return version


def refuse_unsupported(config: Mapping[str, Any]) -> None:
    """Refuse a flat config that lacks what decides, or is of a version that is not served.

    Raises:
        CheckpointUnsupported: With every missing field's name.
    """
    version = version_of(config)
    vision = config.get("vision_config")
    missing = [name for name in NEEDED if config.get(name) is None]
    if isinstance(vision, Mapping):
        missing += [f"vision_config.{name}" for name in NEEDED_OF_VISION if vision.get(name) is None]
    if version in NEEDS_THETA and not _has_theta(config):
        missing.append("rope_theta")
    if missing:
        raise CheckpointUnsupported(
            f"config.json: a {MODEL_TYPE!r} of version {version} lacks {', '.join(missing)}; "
            "take config.json from the official checkpoint that this one was made of"
        )
    hidden = config["hidden_size"]
    if not isinstance(hidden, int) or hidden < HEAD_SIZE or hidden % HEAD_SIZE:
        raise CheckpointUnsupported(
            f"config.json: hidden_size is {hidden!r}; the resampler of {MODEL_TYPE!r} needs a multiple of {HEAD_SIZE}"
        )


def _has_theta(config: Mapping[str, Any]) -> bool:
    nested = config.get("rope_parameters")
    return config.get("rope_theta") is not None or (isinstance(nested, Mapping) and "rope_theta" in nested)


def _unversioned(config: Mapping[str, Any]) -> str:
    """Say what a config without `version` is: only 2.0 and 2.5 were published so.

    Source: vLLM 0.32, `minicpmv.py`, which tells them apart in the same way.
    """
    hidden, queries = config.get("hidden_size"), config.get("query_num")
    if hidden is None:
        return (
            f"config.json: a {MODEL_TYPE!r} lacks version, which says how it is built; "
            f"this service serves {', '.join(LANGUAGES)}"
        )
    if (hidden, queries) == (2304, 64):
        return (
            f"config.json: a {MODEL_TYPE!r} without version, of hidden_size 2304 and query_num 64, is MiniCPM-V 2.0, "
            f"whose language model and vision tower are of other kinds; it {OLD_PROMPTS}"
        )
    return (
        f"config.json: a {MODEL_TYPE!r} without version is MiniCPM-V 2.5 (this one has hidden_size {hidden} and "
        f"query_num {queries}), which numbers its patches in another way and {OLD_PROMPTS}. If it is a 2.6, 4.0 or 4.5 "
        "whose config.json lost the field, add version"
    )
