"""What a case is: folders that somebody could bring, and what an audit ought to say about them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Bundle:
    """Folders as they are handed to `minicpm-service audit`.

    Attributes:
        model: The base or merged model.
        adapters: Adapter folders by name.
        base: `--base`: what the model was tuned from.
        merged_from: `--merged-from`: base and adapter of which the model is said to be the merge.
    """

    model: Path
    adapters: Mapping[str, Path] = field(default_factory=dict)
    base: Path | None = None
    merged_from: tuple[Path, Path] | None = None


@dataclass(frozen=True)
class Case:
    """One thing that happens to people.

    Attributes:
        name: In lower case with underscores; unique within its wave.
        make: Writes the folders into an empty folder.
        why: How it comes about, and what it does to answers.
        subjects: If it is broken, words of which one must be named by a finding that refuses, in any case: a token, a
            tensor, a file, a setting. Empty if the case is harmless.
    """

    name: str
    make: Callable[[Path], Bundle]
    why: str
    subjects: tuple[str, ...] = ()

    @property
    def is_broken(self) -> bool:
        """It must be refused."""
        return bool(self.subjects)
