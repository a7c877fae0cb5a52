"""Builds picture files in memory, sound ones with Pillow and hostile ones by hand."""

import struct
import zlib
from io import BytesIO
from typing import Any

from PIL import Image

from service.media.limits import PictureLimits

LIMITS = PictureLimits(max_pixels=20_000_000, max_bytes=20_000_000)
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


def encoded(picture: Image.Image, format_: str, **options: Any) -> bytes:
    file = BytesIO()
    picture.save(file, format_, **options)
    return file.getvalue()


def solid(colour: Any, mode: str = "RGB", size: tuple[int, int] = (16, 16)) -> Image.Image:
    return Image.new(mode, size, colour)


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    return Image.linear_gradient("L").resize((width, height)).convert("RGB")


def rgb_at(picture: Image.Image, x: int, y: int) -> tuple[int, ...]:
    return tuple(picture.crop((x, y, x + 1, y + 1)).tobytes())


def png_chunk(name: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, *between: bytes, bits: int = 8, colour: int = 0, rows: bytes = b"") -> bytes:
    """Write a PNG by hand; `between` are chunks before the pixels, `rows` is what the pixels inflate to."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    pixels = zlib.compress(rows or b"\0" * (width + 1) * height, 9)
    chunks = [png_chunk(b"IHDR", header), *between, png_chunk(b"IDAT", pixels), png_chunk(b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg_segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def riff_webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
