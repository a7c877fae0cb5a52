"""How large a picture may be.

Reads no setting; an error names the one that moves its limit.
"""

from dataclasses import dataclass

PILLOW_WARNS_ABOVE_PIXELS = 89_478_485
"""Above this Pillow warns, by a process-wide number of its own; a limit below it always decides alone."""


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """Bounds of one picture, checked before anything is allocated for it.

    Attributes:
        max_pixels: Width times height, as the file's header states them.
        max_bytes: Of the encoded file.
        max_aspect_ratio: Longer side over shorter side; the model cuts pictures into slices by this ratio.

    Raises:
        ValueError: A bound is not positive, or `max_pixels` is more than Pillow decodes without a warning.
    """

    max_pixels: int
    max_bytes: int
    max_aspect_ratio: float = 200.0

    def __post_init__(self) -> None:
        """Refuse bounds that could not decide anything."""
        if not 1 <= self.max_pixels <= PILLOW_WARNS_ABOVE_PIXELS:
            raise ValueError(f"max_pixels must be 1 to {PILLOW_WARNS_ABOVE_PIXELS}, not {self.max_pixels}")
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, not {self.max_bytes}")
        if not self.max_aspect_ratio >= 1:
            raise ValueError(f"max_aspect_ratio must be at least 1, not {self.max_aspect_ratio}")
