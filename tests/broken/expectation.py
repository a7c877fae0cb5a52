"""What a broken folder must be found as."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Expected:
    """One finding.

    Attributes:
        check: Its check.
        named: A token, tensor or file that its message must name.
        subject: `base`, or `adapter` for the adapter of the folders.
        severity: How bad it is.
        stage: `files`, or `loaded` if only the model in memory shows it; `int8` if only with weights of 8 bits.
        adapter: Which of the demo's adapters is broken, if one is.
        also: Another check that sees another side of the same mistake.
    """

    check: str
    named: str
    subject: str = "base"
    severity: str = "fatal"
    stage: str = "files"
    adapter: str = "json"
    also: str = ""
