"""Reads names of an adapter's tensors into module and part, and says by what a product of factors is multiplied.

Knows PEFT's names and arithmetic, and no value of a tensor. Source: peft 0.21.2, utils/save_and_load.py, tuners/lora,
tuners/trainable_tokens.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PREFIX = "base_model.model."
"""What PEFT writes in front of every key; names are what follows it."""
LINEAR, EMBEDDING = ("lora_A", "lora_B"), ("lora_embedding_A", "lora_embedding_B")
FIRST, SECOND = zip(LINEAR, EMBEDDING, strict=True)
"""Factors whose rank is their first dimension, and those whose rank is their second."""
MAGNITUDES = "lora_magnitude_vector"
ROWS = "trainable_tokens_delta"
COPY = "base_layer"
"""The base's own tensor beneath an adapter, of which some files hold a copy."""
BENEATH = f".{COPY}"
OWN = re.compile(rf"\.(lora_|token_adapter\.|trainable_tokens_|{COPY}\.)")
PART = re.compile(
    rf"(?P<module>.+)\.(?P<kind>{'|'.join((*LINEAR, *EMBEDDING, MAGNITUDES, ROWS, COPY))})"
    r"(\.(?!weight$|bias$)[^.]+)?(\.(?P<leaf>weight|bias))?"
)
"""Some trainers leave the adapter's own name behind the part."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a name stands for.

    Attributes:
        module: Whose part it is; `base_layer` at its end is the layer beneath another adapter's.
        kind: What PEFT calls the part.
        is_bias: It is that part's bias.
    """

    module: str
    kind: str
    is_bias: bool

    @property
    def name(self) -> str:
        """The part's name within its module."""
        return f"{self.kind}.bias" if self.is_bias else self.kind

    @property
    def is_factor(self) -> bool:
        """It is one of two factors."""
        return self.kind in (*LINEAR, *EMBEDDING) and not self.is_bias

    @property
    def is_zero_at_first(self) -> bool:
        """PEFT starts it at zero: B of linear layers, A of embeddings. The other factor starts at random."""
        return self.kind in (LINEAR[1], EMBEDDING[0])

    @property
    def owner(self) -> str:
        """The module of the base, which several adapters may lie around: one for each of `target_parameters`."""
        return owner_of(self.module)

    def rank_in(self, shape: tuple[int, ...]) -> int:
        """Return the rank that a factor's shape, of two or more dimensions, shows."""
        return shape[0] if self.kind in FIRST else shape[1]


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Return the name of each key of an adapter's file."""
    return {key: key.removeprefix(PREFIX) for key in keys}


def part_of(name: str) -> Part | None:
    """Read a name; None if it is of no part that PEFT gives to LoRA or to trained rows."""
    match = PART.fullmatch(name)
    if match is None:
        return None
    module = match["module"].removesuffix(".token_adapter") if match["kind"] == ROWS else match["module"]
    return Part(module, match["kind"], match["leaf"] == "bias")


def parts_in(names: Iterable[str]) -> dict[str, Part]:
    """Read those of the names that are of such a part."""
    return {name: part for name in names if (part := part_of(name))}


def owner_of(module: str) -> str:
    """Return the module of the base that an adapter's module lies around."""
    while module.endswith(BENEATH):
        module = module.removesuffix(BENEATH)
    return module


def by_module(names: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Gather keys by module and name of the part.

    Args:
        names: The name of each key.
    """
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for key, name in names.items():
        if part := part_of(name):
            found[part.module][part.name] = key
    return dict(found)


def pair_of(parts: Mapping[str, str], kinds: tuple[str, str] = LINEAR) -> tuple[str, str] | None:
    """Return both factors of a module; None if it has not both."""
    first, second = (parts.get(one) for one in kinds)
    return (first, second) if first is not None and second is not None else None


def is_magnitude(name: str) -> bool:
    """Say whether a tensor holds DoRA's magnitudes."""
    return (part := part_of(name)) is not None and part.kind == MAGNITUDES


def is_own(name: str) -> bool:
    """Say whether a tensor is of PEFT's making, not one of the base that was saved whole."""
    return OWN.search(name) is not None


def is_of_lora(name: str) -> bool:
    """Say whether a tensor is a part of LoRA or of one of its variants."""
    return ".lora_" in name


def host_of(name: str) -> str:
    """Return the outermost module that a tensor belongs to: in front of PEFT's own part, or of its last name."""
    match = OWN.search(name)
    return name[: match.start()] if match else name.rpartition(".")[0]


def original_of(name: str) -> str:
    """Return what the base calls the tensor of which this is a copy; other names stay as they are."""
    return name.replace(f"{BENEATH}.", ".")


def by_pattern(pattern: Any, module: str, default: Any) -> Any:
    """Return what `rank_pattern` or `alpha_pattern` says of a module: the first key that matches its end decides."""
    for key, value in pattern.items() if isinstance(pattern, dict) else ():
        try:
            is_match = re.match(rf"(.*\.)?({key})$", module)
        except (re.error, OverflowError, RecursionError):
            continue
        if is_match:
            return value
    return default


def rank_of(config: Mapping[str, Any], module: str, default: Any = None) -> Any:
    """Return what adapter_config.json says of a module's rank, of whichever type."""
    return by_pattern(config.get("rank_pattern"), module, config.get("r", default))


def scale_of(config: Mapping[str, Any], module: str, rank: int) -> float:
    """Return by what the product of the factors is multiplied: alpha over rank, or over its root with rsLoRA.

    Args:
        config: `adapter_config.json`.
        module: Whose factors they are.
        rank: That of the tensors, for a config that names none.

    Raises:
        ValueError: The config names no numbers to scale by, or such as are infinite or no numbers at all.
    """
    alpha = by_pattern(config.get("alpha_pattern"), module, config.get("lora_alpha", 8))
    named = rank_of(config, module, rank)
    try:
        rank = int(named)
        if not isinstance(alpha, int | float) or not math.isfinite(alpha) or rank < 1:
            raise ValueError(f"lora_alpha {alpha!r} and r {named!r} are no numbers to scale by")
        return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"lora_alpha or r is no number to scale by: {error}") from error


def told_scale(config: Mapping[str, Any], module: str, rank: int) -> float | None:
    """Return the same; None where the config does not tell, of which its own checks speak."""
    try:
        return scale_of(config, module, rank)
    except ValueError:
        return None
