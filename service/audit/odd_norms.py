"""Finds norms that are stored as another kind of norm has them: one less, or one more.

Pure arithmetic on facts; what follows from it is decided in `checks/inner_weights.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from service.audit.layers import layer_of
from service.audit.tensors_in_use import tensors_in_use
from service.domain.facts import BaseFacts, VectorFacts
from service.domain.norms import GATED, QWEN, is_of_language, language_type

NORM = re.compile(r"(norm\d*|ln_\w+|layernorm\w*)\.weight$")
HEAD_NORM = re.compile(r"\b[qk]_norm\.weight$")
"""Sharpens or blurs attention: sound ones may all make things larger."""
MULTIPLYING = frozenset({"llama", "qwen2", "qwen3", "qwen3_moe", "mistral", "minicpm", "minicpm3", "minicpm4"})
"""Model types whose norms multiply by their weight.

Beside these and Qwen's, which add one, nothing is judged. Without weight decay on norms, as these have, Gemma's may
all grow far beyond one.
"""
TURNED_SHARE = 0.25
"""Of a norm's values that no training turns."""
RAISED_SHARE, RAISED_GAIN, RAISED_NORMS = 0.005, 1.25, 0.9


@dataclass(frozen=True, slots=True)
class OddNorms:
    """Norms of one half of a model that are off by one.

    Attributes:
        names: Those that show it.
        num_judged: All.
        is_added: Their kind multiplies by one more than the weight.
        is_raised: The weights are one too large, not too small.
        is_certain: No sound model looks so.
    """

    names: tuple[str, ...]
    num_judged: int
    is_added: bool
    is_raised: bool
    is_certain: bool


def odd_norms(base: BaseFacts) -> list[OddNorms]:
    """Find norms that are stored as another kind of norm has them: one less, or one more."""
    used = tensors_in_use(base)
    norms = {name: one for name, one in base.inner.vectors.items() if name in used and NORM.search(name)}
    seeing = {name: one for name, one in norms.items() if not is_of_language(name)}
    seeing = {name: one for name, one in seeing.items() if name.removesuffix("weight") + "bias" in base.tensors}
    language = {name: one for name, one in norms.items() if is_of_language(name) and not name.endswith(GATED)}
    found = [_lowered(seeing, 0)]
    kind = language_type(base.documents.get("config.json", {}))
    if kind in QWEN | MULTIPLYING:
        shift = int(kind in QWEN)
        of_heads = {name: one for name, one in language.items() if HEAD_NORM.search(name)}
        of_layers = {name: one for name, one in language.items() if name not in of_heads}
        found += [_lowered(of_heads, shift), _lowered(of_layers, shift) or _raised(of_layers, shift)]
    return [one for one in found if one]


def _lowered(norms: Mapping[str, VectorFacts], shift: int) -> OddNorms | None:
    """Find norms most of which turn the sign of many values."""
    turned = tuple(sorted(name for name, one in norms.items() if one.up_to[-shift] > TURNED_SHARE))
    is_odd = len(turned) > 1 and len(turned) > len(norms) / 2
    return OddNorms(turned, len(norms), bool(shift), is_raised=False, is_certain=True) if is_odd else None


def _raised(norms: Mapping[str, VectorFacts], shift: int) -> OddNorms | None:
    """Find norms that nearly all make nearly everything larger: training starts at one and goes both ways."""
    inside = {name: one for name, one in norms.items() if layer_of(name)}
    raised = tuple(sorted(name for name, one in inside.items() if one.up_to[1 - shift] <= RAISED_SHARE))
    if len(raised) < 2 or len(raised) < RAISED_NORMS * len(inside):
        return None
    is_certain = all(norms[one].fifth + shift >= RAISED_GAIN for one in raised)
    return OddNorms(raised, len(inside), bool(shift), is_raised=True, is_certain=is_certain)
