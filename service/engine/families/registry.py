"""Picks the family of a model by its config.json.

Does not load anything.
"""

from typing import Any

from service.domain.minicpmv import LANGUAGES, NOT_SERVED, is_minicpm_o
from service.engine.families.causal import CausalFamily
from service.engine.families.family import Family
from service.engine.families.got_ocr2 import GotOcr2
from service.engine.families.image_text import ImageTextFamily
from service.engine.families.minicpm_ocr import MiniCPMOcr
from service.engine.families.minicpmv.family import MiniCPMVFamily
from service.engine.families.minicpmv4_6 import MiniCPMV46
from service.engine.families.minicpmv4_7 import MiniCPMV47
from service.errors import CheckpointUnsupported

FAMILIES: tuple[Family, ...] = (
    MiniCPMV46(),
    MiniCPMV47(),
    MiniCPMOcr(),
    GotOcr2(),
    *(MiniCPMVFamily(version) for version in LANGUAGES),
    ImageTextFamily(),
    CausalFamily(),
)
"""The first that matches serves; exact families come before the general ones."""


def find_family(config: dict[str, Any], *, is_code_trusted: bool) -> Family:
    """Return the family that serves a model.

    Raises:
        CheckpointUnsupported: There is no class for it and no setting trusts its code, or it is of a version that is
            not served.
    """
    is_hearing = is_minicpm_o(config)
    for family in FAMILIES:
        if not is_hearing and family.matches(config):
            return family
    model_type = config.get("model_type")
    if is_code_trusted and "AutoModelForCausalLM" in (config.get("auto_map") or {}):
        return CausalFamily()
    hint = (
        NOT_SERVED
        if is_hearing
        else "Its own code can run only if MINICPM_TRUSTED_REMOTE_CODE names exactly this folder or hub id"
    )
    raise CheckpointUnsupported(f"transformers has no native class for model_type {model_type!r}. {hint}")
