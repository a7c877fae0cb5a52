"""Tells by the names of modules which family of models an adapter was trained on, and whether the base is of another.

Judges nothing, and reads no shape: names alone tell families apart.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from service.domain.facts import AdapterFacts, BaseFacts
from service.domain.minicpmv import MODEL_TYPE


@dataclass(frozen=True, slots=True)
class Layout:
    """How the models of one family name their parts.

    Attributes:
        models: What to call them.
        prefixes: What names of their modules begin with.
    """

    models: str
    prefixes: tuple[str, ...]


LAYOUTS = (
    Layout("MiniCPM-V 2.6 to 4.5", ("llm.", "vpm.", "resampler.")),
    Layout("MiniCPM-V 4.6 or later", ("model.language_model.", "model.vision_tower.", "model.merger.")),
    Layout("a MiniCPM for text", ("model.layers.", "model.embed_tokens.", "model.norm.")),
)
NAMES = {"minicpmv4_6": "MiniCPM-V 4.6", "minicpmv4_7": "MiniCPM-V 4.7"}


def layout_of(names: Iterable[str]) -> Layout | None:
    """Return the family that most of some modules or tensors are named as; None for none of those above."""
    names = [f"{one}." for one in names]
    counts = {one.models: sum(name.startswith(one.prefixes) for name in names) for one in LAYOUTS}
    best = max(LAYOUTS, key=lambda one: counts[one.models])
    return best if counts[best.models] * 2 > len(names) else None


def foreign_layout(adapter: AdapterFacts, base: BaseFacts) -> Layout | None:
    """Return the family of an adapter none of whose modules the base has; None if it is the base's, or unknown."""
    place = adapter.attachment
    if place.bare or place.meant or not place.unknown or len(place.unknown) < place.num_modules:
        return None
    mine, needed = layout_of(place.unknown), layout_of(base.tensors)
    return mine if mine and needed and mine != needed else None


def prefixes_in(layout: Layout, names: Collection[str]) -> list[str]:
    """Return those of a family's prefixes that are in use."""
    return [prefix for prefix in layout.prefixes if any(f"{one}.".startswith(prefix) for one in names)]


def name_of(base: BaseFacts) -> str:
    """Say what model a base is."""
    version = base.documents.get("config.json", {}).get("version")
    if base.model_type == MODEL_TYPE and version:
        return f"MiniCPM-V {version}"
    layout = layout_of(base.tensors)
    return NAMES.get(base.model_type) or (layout.models if layout else base.model_type)
