"""What a picture file says about itself: its size and its EXIF, read from the header; no pixel is decoded.

Does not know limits of size, nor Pillow. PNG and JPEG are rewritten without their metadata, so that text
and ICC bombs, animation chunks and hostile EXIF never reach a decoder. Each loop over parts of a file is
bounded, because a client chooses how small the parts are.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from service.media.formats import PictureFormat

_MAX_PARTS = 20_000
"""Chunks, segments or blocks; encoders usually make them 8 kB or more, together 160 MB."""

_MAX_JPEG_SCANS = 100
"""A progressive JPEG has about ten; each scan of a few bytes costs a pass over the whole picture."""

_PNG_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})

_JPEG_START_OF_SCAN = 0xDA
_JPEG_EXIF = 0xE1
_JPEG_METADATA = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})
"""APPn and comments, except JFIF (APP0) and Adobe (APP14), which say how colours are stored."""
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length."""
_JPEG_MARKER = re.compile(rb"\xff([^\xff])")
"""Any number of fill bytes 0xFF may stand before it; matching only the last keeps the search linear."""

_BMP_UNCOMPRESSED = frozenset({0, 3})
"""Plain and bit fields. Pillow expands run lengths pixel by pixel in Python: seconds for a few kB."""


class ContainerError(Exception):
    """The file is cut off, damaged or built to be slow; the text completes "picture 0 (PNG) ..."."""


@dataclass(frozen=True, slots=True)
class Container:
    """A picture file, opened but not decoded.

    Attributes:
        width: In pixels, before orientation is applied.
        height: In pixels, before orientation is applied.
        pixel_data: The file, as far as a decoder needs it.
        exif: The EXIF block, or nothing.
    """

    width: int
    height: int
    pixel_data: bytes
    exif: bytes = b""


def read_container(data: bytes, format_: PictureFormat) -> Container:
    """Read a file's size and EXIF from its header.

    Raises:
        ContainerError: The file is cut off, damaged, or made of unreasonably many parts.
    """
    try:
        return _READERS[format_](data)
    except (struct.error, IndexError) as error:
        raise ContainerError("is cut off") from error


def _read_png(data: bytes) -> Container:
    kept = [data[:8]]
    exif = b""
    for name, chunk in _png_chunks(data):
        if name == b"eXIf":
            exif = chunk[8:-4]
        if name in _PNG_PIXEL_CHUNKS:
            if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:]):
                raise ContainerError(f"is damaged: a checksum of {name.decode()} is wrong")
            kept.append(chunk)
    if kept[1][4:8] != b"IHDR":
        raise ContainerError("is damaged: it does not begin with IHDR")
    width, height = struct.unpack_from(">II", kept[1], 8)
    return Container(width, height, b"".join(kept), exif)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and whole chunk (length, name, body, checksum) up to the end chunk."""
    position = 8
    for _ in range(_MAX_PARTS):
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise ContainerError("is cut off")
        yield name, data[position:end]
        if name == b"IEND":
            return
        position = end
    raise ContainerError(f"has more than {_MAX_PARTS} chunks")


def _read_jpeg(data: bytes) -> Container:
    kept = [data[:2]]
    exif = b""
    size: tuple[int, int] | None = None
    for marker, segment in _jpeg_segments(data):
        if marker == _JPEG_EXIF and not exif and segment[4:].startswith(b"Exif\0\0"):
            exif = segment[4:]
        if marker in _JPEG_SIZES and size is None:
            height, width = struct.unpack_from(">HH", segment, 5)
            size = width, height
        if marker not in _JPEG_METADATA:
            kept.append(segment)
    if size is None:
        raise ContainerError("is damaged: it does not state its size")
    # Compressed data escapes 0xFF, so that these two bytes are nothing but the start of a scan.
    if kept[-1].count(b"\xff\xda") > _MAX_JPEG_SCANS:
        raise ContainerError(f"has more than {_MAX_JPEG_SCANS} scans")
    return Container(*size, b"".join(kept), exif)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and segment (marker, length, body); the last is all the rest, from the first scan on."""
    position = 2
    for _ in range(_MAX_PARTS):
        found = _JPEG_MARKER.search(data, position)
        if found is None:
            raise ContainerError("is cut off")
        marker, start = found[1][0], found.start()
        if marker == _JPEG_START_OF_SCAN:
            yield marker, data[start:]
            return
        position = found.end()
        if marker in _JPEG_BARE or marker == 0:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        position += length
        if length < 2 or position > len(data):
            raise ContainerError("is cut off")
        yield marker, data[start:position]
    raise ContainerError(f"has more than {_MAX_PARTS} segments")


def _read_webp(data: bytes) -> Container:
    """Read the canvas; libwebp allocates it as soon as a decoder is made, before Pillow tells any size."""
    width = height = 0
    exif = b""
    for name, start, length in _webp_chunks(data):
        if name == b"EXIF":
            exif = data[start : start + length]
        if width == 0:
            width, height = _webp_size(data, name, start)
    return Container(width, height, data, exif)


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and length of each chunk's body."""
    position = 12
    for _ in range(_MAX_PARTS):
        if position + 8 > len(data):
            return
        name, length = struct.unpack_from("<4sI", data, position)
        yield name, position + 8, length
        position += 8 + length + length % 2
    raise ContainerError(f"has more than {_MAX_PARTS} chunks")


def _webp_size(data: bytes, name: bytes, start: int) -> tuple[int, int]:
    if name == b"VP8X":
        width, height = data[start + 4 : start + 7], data[start + 7 : start + 10]
        return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
    if name == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, start + 1)
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    if name == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, start + 6)
        return width & 0x3FFF, height & 0x3FFF
    raise ContainerError("is damaged: it does not begin with a picture")


def _read_gif(data: bytes) -> Container:
    """Read the screen, enlarged to hold the first frame, as decoders do."""
    screen_width, screen_height, flags = struct.unpack_from("<HHB", data, 6)
    palette_bytes = 3 << (flags & 7) + 1 if flags & 0x80 else 0
    left, top, width, height = struct.unpack_from("<HHHH", data, _gif_frame(data, 13 + palette_bytes) + 1)
    return Container(max(screen_width, left + width), max(screen_height, top + height), data)


def _gif_frame(data: bytes, position: int) -> int:
    """Return where the first frame begins, after any extensions, which are chains of blocks that end in 0."""
    is_in_extension = False
    for _ in range(_MAX_PARTS):
        byte = data[position]
        if is_in_extension:
            position += 1 + byte
            is_in_extension = byte > 0
        elif byte == ord("!"):
            position += 2
            is_in_extension = True
        elif byte == ord(","):
            return position
        else:
            raise ContainerError("is damaged: it has no frame")
    raise ContainerError(f"has more than {_MAX_PARTS} blocks before its first frame")


def _read_bmp(data: bytes) -> Container:
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    if header_bytes == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return Container(width, height, data)
    width, height, _, _, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression not in _BMP_UNCOMPRESSED:
        raise ContainerError("is compressed; only uncompressed BMP is read")
    # A negative height says that rows run from the top down.
    return Container(width, abs(height), data)


_READERS: Mapping[PictureFormat, Callable[[bytes], Container]] = {
    PictureFormat.PNG: _read_png,
    PictureFormat.JPEG: _read_jpeg,
    PictureFormat.WEBP: _read_webp,
    PictureFormat.GIF: _read_gif,
    PictureFormat.BMP: _read_bmp,
}
