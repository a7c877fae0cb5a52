"""Which format a file is, told from its first bytes.

Does not parse; a file may begin as a PNG and be none.
"""

from enum import StrEnum


class PictureFormat(StrEnum):
    """The formats that are served, by the names Pillow gives them."""

    PNG = "PNG"
    JPEG = "JPEG"
    WEBP = "WEBP"
    GIF = "GIF"
    BMP = "BMP"


_SERVED: tuple[tuple[int, bytes, PictureFormat], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", PictureFormat.PNG),
    (0, b"\xff\xd8\xff", PictureFormat.JPEG),
    (8, b"WEBPVP8", PictureFormat.WEBP),
    (0, b"GIF87a", PictureFormat.GIF),
    (0, b"GIF89a", PictureFormat.GIF),
    (0, b"BM", PictureFormat.BMP),
)
"""Offset, bytes found there, format."""

_FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (0, b"%!PS", "EPS"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (0, b"%PDF", "PDF"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"ftypavi", "AVIF"),
    (4, b"ftyphe", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypmsf1", "HEIC"),
    (4, b"ftyp", "MP4"),
    (0, b"\x1aE\xdf\xa3", "WebM"),
    (0, b"PK\x03\x04", "ZIP"),
    (0, b"\x1f\x8b", "gzip"),
)
"""Offset, bytes found there, name; the first match counts."""

_MARKUP: tuple[tuple[bytes, str], ...] = (
    (b"<svg", "SVG"),
    (b"<!doctype svg", "SVG"),
    (b"<?xml", "SVG or other XML"),
    (b"<!doctype html", "HTML"),
    (b"<html", "HTML"),
    (b"{", "JSON"),
)


def served_format(data: bytes) -> PictureFormat | None:
    """Name the served format that a file begins as."""
    return next((format_ for at, magic, format_ in _SERVED if data.startswith(magic, at)), None)


def foreign_name(data: bytes) -> str | None:
    """Name a format that is recognised only to be refused by name."""
    for at, magic, name in _FOREIGN:
        if data.startswith(magic, at):
            return name
    text = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return next((name for start, name in _MARKUP if text.startswith(start)), None)
