"""Says which config.json of `model_type` minicpmv this service can build, and refuses the others with the reason.

Knows names and sizes only; imports neither torch nor transformers.
"""

from collections.abc import Mapping
from typing import Any

from service.domain import minicpmv
from service.domain.minicpmv import HEAD_SIZE, LANGUAGES, MODEL_TYPE
from service.errors import CheckpointUnsupported

OLD_PROMPTS = (
    "puts slices into its prompt in another way; use MiniCPM-V 2.6, 4.0, 4.5 or later, or serve it with vLLM 0.32"
)
TAKE_CONFIG = "take config.json from the official checkpoint that this one was made of"


def version_of(config: Mapping[str, Any]) -> str:
    """Return `2.6`, `4.0` or `4.5`.

    Raises:
        CheckpointUnsupported: It is another version, or the config does not say.
    """
    given = config.get("version")
    if given is None:
        raise CheckpointUnsupported(_unversioned(config))
    version = minicpmv.version_of(config)
    if version is None:
        raise CheckpointUnsupported(
            f"config.json: version is {given!r} for model_type {MODEL_TYPE!r}, which this service serves as "
            f"{', '.join(LANGUAGES)}; correct the field if the weights are of one of these"
        )
    return version


def refuse_unsupported(config: Mapping[str, Any]) -> None:
    """Refuse a flat config that lacks what decides or says it in a wrong type, or is of a version that is not served.

    Raises:
        CheckpointUnsupported: With the name of every such field.
    """
    version = version_of(config)
    if missing := minicpmv.missing_fields(config):
        raise CheckpointUnsupported(
            f"config.json: a {MODEL_TYPE!r} of version {version} lacks {', '.join(missing)}; {TAKE_CONFIG}"
        )
    if misfits := minicpmv.misfit_fields(config):
        shown = ", ".join(f"{name} is {repr(value)[:40]}, not {wanted}" for name, value, wanted in misfits)
        raise CheckpointUnsupported(f"config.json: {shown}; {TAKE_CONFIG}")
    hidden = config["hidden_size"]
    if hidden % HEAD_SIZE:
        raise CheckpointUnsupported(
            f"config.json: hidden_size is {hidden}; the resampler of {MODEL_TYPE!r} needs a multiple of {HEAD_SIZE}"
        )


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
        f"whose config.json lost the field, {TAKE_CONFIG}"
    )
