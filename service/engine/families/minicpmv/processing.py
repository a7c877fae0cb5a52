"""Prompts of MiniCPM-V 2.6 to 4.5: places of pictures become blocks of placeholder tokens, and are found again as ids.

Knows neither pixels nor tokenizers. A block is what one run of the resampler fills: a picture's thumbnail, one of its
slices, or the same slice of several video frames packed together.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

from service.domain.minicpmv import MARKERS, STILL
from service.engine.families.minicpmv.image_processing import Normalising
from service.engine.families.minicpmv.slicing import Grid, Slicing

PLACE = "(<image>./</image>)"
"""What stands for a picture in the text that the chat template renders."""


@dataclass(frozen=True, slots=True)
class Markers:
    """The tokens around and inside blocks; the names are those of preprocessor_config.json."""

    im_start: str = MARKERS["im_start"]
    im_end: str = MARKERS["im_end"]
    slice_start: str = MARKERS["slice_start"]
    slice_end: str = MARKERS["slice_end"]
    im_id_start: str = MARKERS["im_id_start"]
    im_id_end: str = MARKERS["im_id_end"]
    unk: str = MARKERS["unk"]

    @property
    def texts(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(getattr(self, one.name) for one in fields(self))


@dataclass(frozen=True, slots=True)
class ProcessorSettings:
    """What preprocessor_config.json says.

    Attributes:
        block_tokens: Placeholder tokens of a block: the queries of the resampler.
        is_numbered: Each picture's blocks begin with its number.
        can_slice: Pictures are cut at all.
    """

    slicing: Slicing = field(default_factory=Slicing)
    normalising: Normalising = field(default_factory=Normalising)
    markers: Markers = field(default_factory=Markers)
    block_tokens: int = 64
    is_numbered: bool = True
    can_slice: bool = True

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """Read a preprocessor_config.json, whose `version` says 2.6 whatever the model is and is not looked at.

        Raises:
            ValueError: A setting has a value that nothing can be done with.
        """
        can_slice = bool(document.get("slice_mode", True))
        slices = _whole(document, "max_slice_nums", 9) if can_slice else 1
        slicing = Slicing(_whole(document, "scale_resolution", 448), _whole(document, "patch_size", 14), slices)
        normalising = Normalising(_colours(document, "norm_mean"), _colours(document, "norm_std"))
        if 0 in normalising.deviation:
            raise ValueError(f"preprocessor_config.json: norm_std {list(normalising.deviation)} divides by zero")
        names = [one.name for one in fields(Markers)]
        markers = Markers(**{name: str(document[name]) for name in names if document.get(name)})
        tokens = _whole(document, "image_feature_size", 64)
        return cls(slicing, normalising, markers, tokens, bool(document.get("use_image_id", True)), can_slice)


@dataclass(frozen=True, slots=True)
class MarkerIds:
    """Ids of the markers that blocks are found by."""

    starts: frozenset[int]
    ends: frozenset[int]
    unk: int

    @classmethod
    def of(cls, tokenizer: Any, markers: Markers) -> Self:
        """Look the markers up in a tokenizer, by their texts: their numbers differ from version to version.

        Raises:
            ValueError: The tokenizer lacks some.
        """
        vocabulary = tokenizer.get_vocab()
        missing = [text for text in markers.texts if text not in vocabulary]
        if missing:
            raise ValueError(
                f"the tokenizer has no {', '.join(missing)}, which prompts with pictures are built of; "
                "restore tokenizer.json or added_tokens.json of the base"
            )
        ids = dict(zip(markers.texts, tokenizer.convert_tokens_to_ids(list(markers.texts)), strict=True))
        return cls(
            frozenset({ids[markers.im_start], ids[markers.slice_start]}),
            frozenset({ids[markers.im_end], ids[markers.slice_end]}),
            ids[markers.unk],
        )


@dataclass(frozen=True, slots=True)
class Packs:
    """How video frames share blocks.

    Attributes:
        slices: `(picture, slice)` in the order in which the vision tower sees them.
        times: One group a block, one time a slice: tenths of a second, or `STILL`.
        unwritten: Pictures without a block of their own: the frames of a pack after its first.
    """

    slices: tuple[tuple[int, int], ...]
    times: tuple[tuple[int, ...], ...]
    unwritten: frozenset[int]


def pack(slices: Sequence[int], groups: Sequence[Sequence[int]] | None) -> Packs:
    """Say which slices share a block.

    The frames of a group are packed slice by slice: their thumbnails share a block, then their first slices, and so on.

    Args:
        slices: How many slices each picture has, its thumbnail among them.
        groups: Times of the pictures, in groups; each group takes as many of the next pictures as it has times. None:
            every picture stands alone.

    Raises:
        ValueError: Groups and pictures differ in number, a time is none, or frames of a group are cut differently.
    """
    groups = [[STILL]] * len(slices) if groups is None else groups
    if wrong := [time for group in groups for time in group if not _is_time(time)]:
        raise ValueError(
            f"temporal_ids: {wrong[0]!r} is no time of a frame; write whole tenths of a second from 0, "
            f"and {STILL} for a picture that is no frame"
        )
    if sum(map(len, groups)) != len(slices) or not all(groups):
        raise ValueError(
            f"the groups of temporal_ids have {[len(one) for one in groups]} times for {len(slices)} pictures; "
            "give every picture one, -1 where it is no video frame"
        )
    order: list[tuple[int, int]] = []
    times: list[tuple[int, ...]] = []
    unwritten: set[int] = set()
    first = 0
    for group in groups:
        frames = range(first, first + len(group))
        first += len(group)
        counts = {slices[one] for one in frames}
        if len(counts) > 1:
            raise ValueError(
                f"pictures {frames[0]} to {frames[-1]} are frames of one pack, and are cut into {sorted(counts)} "
                "slices; send frames of one size, or max_slice_nums 1"
            )
        order += [(frame, number) for number in range(counts.pop()) for frame in frames]
        times += [tuple(group)] * slices[frames[0]]
        unwritten.update(frames[1:])
    return Packs(tuple(order), tuple(times), frozenset(unwritten))


def block_text(grid: Grid | None, markers: Markers, tokens: int, number: int | None) -> str:
    """Return the text that stands for a picture.

    Args:
        grid: Its columns and rows of slices; None without.
        markers: The tokens to write.
        tokens: Placeholder tokens of each block.
        number: The picture's, or None to leave it out.
    """
    inside = markers.unk * tokens
    head = "" if number is None else f"{markers.im_id_start}{number}{markers.im_id_end}"
    thumbnail = f"{markers.im_start}{inside}{markers.im_end}"
    columns, rows = grid or (0, 0)
    row = f"{markers.slice_start}{inside}{markers.slice_end}" * columns
    return head + thumbnail + "\n".join([row] * rows)


def expand(text: str, blocks: Sequence[str | None]) -> str:
    """Put blocks into the places for pictures, in order.

    Args:
        text: With a `PLACE` for each picture; whatever a client wrote must hold none.
        blocks: What stands for each picture; None for one that another's block covers, whose place vanishes with the
            white space before it.

    Raises:
        ValueError: Places and pictures differ in number.
    """
    chunks = text.split(PLACE)
    if len(chunks) - 1 != len(blocks):
        raise ValueError(f"the chat template left {len(chunks) - 1} places for {len(blocks)} pictures")
    pieces = (
        chunk.strip() if block is None else chunk + block for chunk, block in zip(chunks[:-1], blocks, strict=True)
    )
    return "".join(pieces) + chunks[-1]


def find_blocks(ids: Sequence[int], markers: MarkerIds, tokens: int) -> list[tuple[int, int]]:
    """Find the blocks of a prompt.

    Args:
        ids: The prompt's.
        markers: What stands around and inside blocks.
        tokens: Placeholders that each must have.

    Returns:
        The first placeholder of each block, and the one after the last.

    Raises:
        ValueError: A block is not whole.
    """
    blocks = list(_pairs(ids, markers))
    inside = [ids[start:end] for start, end in blocks]
    if any(list(one) != [markers.unk] * tokens for one in inside):
        raise ValueError(f"a picture's block in the prompt has not exactly {tokens} placeholders")
    return blocks


def _is_time(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= STILL


def _pairs(ids: Sequence[int], markers: MarkerIds) -> Iterator[tuple[int, int]]:
    start: int | None = None
    for place, one in enumerate(ids):
        if one in markers.starts or one in markers.ends:
            if (start is None) != (one in markers.starts):
                raise ValueError(f"the picture markers of the prompt are not in pairs at token {place}")
            if start is not None:
                yield start, place
            start = None if one in markers.ends else place + 1
    if start is not None:
        raise ValueError("the prompt ends inside a picture's block")


def _whole(document: Mapping[str, Any], name: str, otherwise: int) -> int:
    value = document.get(name)
    value = otherwise if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"preprocessor_config.json: {name} is {value!r}; it must be a whole number of at least 1")
    return value


def _colours(document: Mapping[str, Any], name: str) -> tuple[float, float, float]:
    value = document.get(name)
    value = (0.5, 0.5, 0.5) if value is None else value
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(isinstance(one, int | float) for one in value):
        raise ValueError(f"preprocessor_config.json: {name} is {value!r}; it must be three numbers")
    red, green, blue = map(float, value)
    return red, green, blue
