"""What a model class asks for, and what of it the files hold.

Knows no file and no consequence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class BlueprintFacts:
    """A folder's config as the model class reads it, laid over the tensors of its files.

    Attributes:
        source: Who says so: `transformers`, or the name of our own list for models that transformers does not know.
        classes: The classes that generate text with this model type; empty if that is not known.
        config: The settings as the class understands them, defaults filled in, older spellings made new; settings that
            the class does not know are left out.
        is_tied: What the class makes of the tie, if it could be built; None if not.
        missing: Parameters that no file holds.
        unused: Tensors of the files that no parameter takes.
        misshapen: Tensors that a parameter of another shape would take: the file's shape, and the needed one.
        problem: Why the config cannot be read or the class not be built; None if it can. The rest is empty then.
    """

    source: str
    classes: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    is_tied: bool | None = None
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    misshapen: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    problem: str | None = None
