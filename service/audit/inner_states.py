"""Says what inner tensors look like: as drawn before training, as codes, or as the weights of another kind of norm.

Pure arithmetic on facts; what follows from it is decided in `checks/inner_weights.py`.
"""

import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from service.audit.row_states import initializer_range
from service.domain.facts import BaseFacts, SampleFacts, VectorFacts
from service.domain.minicpmv import LANGUAGES, MODEL_TYPE, version_of

DEVIATIONS = 4.0
"""How far a statistic of a fresh draw may be off what it is on average, in its own standard deviations."""
LOWEST_KURTOSIS, NORMAL_KURTOSIS, KURTOSIS_MARGIN = 1.7, 3.0, 0.1
"""Fresh values are drawn from a uniform distribution (1.8), from a normal one, or from one that was cut off."""
SAME_DEVIATION = 0.02
"""Share by which a fresh matrix may miss the deviation that config.json names."""
MIN_TRAINED = 0.5
"""Share of a model's tensors that must be trained before a part that is not stands out."""
MOST_MOVED = 0.05
"""Share of matrices that look like a draw of another deviation: one in seven after 300 steps at 3e-4 from scratch."""
MIN_DRAWN = 4096
"""A matrix with fewer values shows too little by itself."""
CODE_DEVIATION = 1.0
"""Weights spread by hundredths; codes without their scales by tens."""
PICTURE_FILES = ("processor_config.json", "preprocessor_config.json")
NORM = re.compile(r"(norm\d*|ln_\w+|layernorm\w*)\.weight$")
HEAD_NORM = re.compile(r"\b[qk]_norm\.weight$")
"""Sharpens or blurs attention: sound ones may all make things larger."""
GATED = "linear_attn.norm.weight"
"""It multiplies by its weight in every family."""
SEEING = re.compile(r"(^|\.)(vpm|vision\w*|visual|resampler\w*|merger|multi_modal_projector|apm|tts)\.")
ADDING = frozenset({"qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_next"})
"""Model types whose norms multiply by one more than their weight. Source: transformers 5.23, their modeling files.

Gemma's do too and are not judged: without weight decay on norms, as these have, theirs may all grow far beyond one.
"""
MULTIPLYING = frozenset({"llama", "qwen2", "qwen3", "qwen3_moe", "mistral", "minicpm", "minicpm3", "minicpm4"})
"""Model types whose norms multiply by their weight."""
TURNED_SHARE = 0.25
"""Of a norm's values that no training turns."""
RAISED_SHARE, RAISED_GAIN, RAISED_NORMS = 0.005, 1.25, 0.9


@dataclass(frozen=True, slots=True)
class UntrainedPart:
    """A part of a model whose tensors are all as before training.

    Attributes:
        name: As tensors' names begin.
        matrices: Those that look like one draw.
        vectors: Those that are one throughout, or zero.
        num_trained: Of the model's other tensors those that were trained.
    """

    name: str
    matrices: tuple[str, ...]
    vectors: tuple[str, ...]
    num_trained: int


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


def untrained_parts(base: BaseFacts) -> list[UntrainedPart]:
    """Find the largest parts that are as before training, in a model that mostly is not.

    A part is told by vectors that are exactly one or zero beside matrices that look like one draw, or by matrices
    alone that are drawn with the deviation of config.json. In a model that was trained shortly many matrices still look
    like a draw, of a deviation that has moved: there matrices alone show nothing.
    """
    drawn, even = _as_drawn(base), _as_begun(base)
    if not _is_mostly_trained([*drawn.values(), *even.values()]):
        return []
    num_trained = sum(not one for one in (*drawn.values(), *even.values()))
    below: dict[str, list[str]] = defaultdict(list)
    for name in (*drawn, *even):
        for above in _above(name):
            below[above].append(name)
    begun = {one: names for one, names in below.items() if all(drawn.get(name, even.get(name)) for name in names)}
    found = {one for one, names in begun.items() if 1 < sum(name in drawn for name in names) < len(names)}
    large = {name for name in drawn if drawn[name] and base.inner.samples[name].num_values >= MIN_DRAWN}
    fresh = {name for name in large if _is_fresh(base.inner.samples[name], base)}
    moved = large - fresh - {name for one in found for name in begun[one]}
    if len(moved) <= MOST_MOVED * len(drawn):
        found |= {one for one, names in begun.items() if (matrices := drawn.keys() & names) and matrices <= fresh}
    largest = sorted(one for one in found if not any(above in found for above in _above(one)[:-1]))
    return [_part(one, below[one], drawn, num_trained) for one in largest]


def _is_mostly_trained(states: list[bool]) -> bool:
    """Say whether most tensors are not as before training; false if there are none."""
    return bool(states) and states.count(False) >= MIN_TRAINED * len(states)


def _as_drawn(base: BaseFacts) -> dict[str, bool]:
    """Say of each matrix in use whether it looks like one draw."""
    used = _used(base)
    return {name: _looks_drawn(one) for name, one in base.inner.samples.items() if name in used}


def _as_begun(base: BaseFacts) -> dict[str, bool]:
    """Say of each norm and bias in use whether it is one throughout, or zero; other vectors show nothing."""
    used = _used(base)
    begun = {
        name: one.low == one.high and one.low in (0.0, 1.0) for name, one in base.inner.vectors.items() if name in used
    }
    return {name: is_even for name, is_even in begun.items() if is_even or name.endswith(("weight", "bias"))}


def _part(name: str, names: Collection[str], drawn: Mapping[str, bool], num_trained: int) -> UntrainedPart:
    matrices = tuple(sorted(one for one in names if one in drawn))
    return UntrainedPart(name, matrices, tuple(sorted(set(names) - set(matrices))), num_trained)


def _is_fresh(sample: SampleFacts, base: BaseFacts) -> bool:
    """Say whether a matrix that looks like a draw has the deviation that config.json names."""
    wanted = initializer_range(base.documents.get("config.json", {}))
    return abs(sample.deviation - wanted) <= SAME_DEVIATION * wanted


def _looks_drawn(sample: SampleFacts) -> bool:
    """Say whether values are of one uniform or normal distribution, rows and columns alike."""
    highest = NORMAL_KURTOSIS + KURTOSIS_MARGIN + DEVIATIONS * math.sqrt(24 / sample.num_values)
    if not LOWEST_KURTOSIS <= sample.kurtosis <= highest:
        return False
    num_columns = sample.num_values / sample.num_rows
    return all(
        spread <= 1 + DEVIATIONS / math.sqrt(2 * count)
        for spread, count in ((sample.row_spread, sample.num_rows), (sample.column_spread, num_columns))
    )


def _above(name: str) -> list[str]:
    """Return the modules that something lies in, and itself, the outermost first."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _used(base: BaseFacts) -> set[str]:
    """Return the tensors that answers depend on: not those that no parameter takes, or that no picture passes."""
    unused = set(base.blueprint.unused) if base.blueprint else set()
    names = {*base.inner.vectors, *base.inner.samples} - unused
    if "4x" in (one.get("downsample_mode") for one in _settings(base)):
        names = {one for one in names if ".vit_merger." not in one}
    return names


def _settings(base: BaseFacts) -> Iterator[Mapping[str, object]]:
    for document in (base.documents.get(name, {}) for name in ("config.json", *PICTURE_FILES)):
        part = document.get("image_processor")
        yield from (document, part if isinstance(part, dict) else {})


def code_tensors(base: BaseFacts) -> dict[str, SampleFacts]:
    """Find matrices that hold codes of 8 bits as numbers, as if their scales were all one."""
    config = base.documents.get("config.json", {})
    if config.get("quantization_config") or config.get("compression_config"):
        return {}
    used = _used(base)
    return {
        name: one
        for name, one in sorted(base.inner.samples.items())
        if name in used and one.grid is not None and one.deviation > CODE_DEVIATION
    }


def odd_norms(base: BaseFacts) -> list[OddNorms]:
    """Find norms that are stored as another kind of norm has them: one less, or one more."""
    used = _used(base)
    norms = {name: one for name, one in base.inner.vectors.items() if name in used and NORM.search(name)}
    seeing = {name: one for name, one in norms.items() if SEEING.search(name)}
    seeing = {name: one for name, one in seeing.items() if name.removesuffix("weight") + "bias" in base.tensors}
    language = {name: one for name, one in norms.items() if not SEEING.search(name) and not name.endswith(GATED)}
    found = [_lowered(seeing, 0)]
    kind = _language_type(base)
    if kind in ADDING | MULTIPLYING:
        shift = int(kind in ADDING)
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


def _language_type(base: BaseFacts) -> str:
    config = base.documents.get("config.json", {})
    if base.model_type == MODEL_TYPE:
        return LANGUAGES.get(version_of(config) or "", "")
    return str(_text_part(config).get("model_type") or base.model_type)


def _text_part(config: Mapping[str, object]) -> Mapping[str, object]:
    text = config.get("text_config")
    return text if isinstance(text, dict) else {}


def layer_of(name: str) -> str:
    """Return a tensor's layer, as names begin; empty if it is in none."""
    match = re.match(r"(.*?\.\d+)\.", name)
    return match[1] if match else ""


def by_layer(names: Iterable[str]) -> dict[str, list[str]]:
    """Gather tensors by their layers, ascending."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if layer := layer_of(name):
            found[layer].append(name)
    return dict(sorted(found.items(), key=lambda item: [int(one) for one in re.findall(r"\d+", item[0])]))
