"""Hostile files: every one is refused by `InvalidPicture`, soon, and without warnings."""

import struct
import time
import warnings
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import (
    FORMATS,
    LIMITS,
    encoded,
    exif,
    gradient,
    jpeg_segment,
    png,
    png_chunk,
    riff_webp,
    solid,
    with_segments,
)
from PIL import Image

from service.errors import InvalidPicture
from service.media.decoding import decode_picture
from service.media.limits import PILLOW_WARNS_ABOVE_PIXELS, PictureLimits

SOUND = {format_: encoded(gradient(), format_) for format_ in FORMATS}
SOUND["progressive"] = encoded(gradient(), "JPEG", progressive=True, exif=exif(6))
SOUND["animated"] = encoded(gradient(), "WEBP", save_all=True, append_images=[solid(0, "RGB", (40, 30))])
SOUND["palette"] = encoded(gradient().quantize(8), "PNG", transparency=bytes(8))


@pytest.fixture(autouse=True)
def _no_warning_leaks() -> Iterator[None]:
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        yield
    assert not leaked


def refusal(data: bytes, limits: PictureLimits = LIMITS) -> str:
    began = time.monotonic()
    with pytest.raises(InvalidPicture) as caught:
        decode_picture(data, 3, limits)
    assert time.monotonic() - began < 5
    detail = caught.value.detail
    assert detail.startswith("picture 3 ")
    assert len(detail) < 200
    assert "0x" not in detail
    return detail


def test_an_empty_file_is_refused() -> None:
    assert "is empty" in refusal(b"")


def test_a_file_over_the_byte_limit_is_refused_with_both_numbers() -> None:
    assert "is 125 bytes; the limit is 124" in refusal(
        SOUND["PNG"].ljust(125, b"\0"), PictureLimits(max_pixels=10_000, max_bytes=124)
    )


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (encoded(solid(0), "TIFF"), "TIFF"),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (encoded(solid(0), "EPS"), "EPS"),
        (encoded(solid(0), "PDF"), "PDF"),
        (b"SIMPLE  =                    T", "FITS"),
        (encoded(solid(0), "ICO"), "ICO"),
        (encoded(solid(0), "JPEG2000"), "JPEG 2000"),
        (encoded(solid(0), "AVIF"), "AVIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "MP4"),
        (b"\xff\x0a\x00\x00", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\xef\xbb\xbf  <svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<?xml version='1.0'?><svg/>", "SVG"),
        (b"<!DOCTYPE html><title>404</title>", "HTML"),
        (b'{"error": "not found"}', "JSON"),
        (zlib.compress(b"", wbits=31), "gzip"),
    ],
)
def test_a_format_that_is_not_served_is_refused_by_name(data: bytes, name: str) -> None:
    assert f"is {name}" in refusal(data)


@pytest.mark.parametrize("format_", ["PPM", "TGA", "PCX", "SGI", "DDS", "MSP"])
def test_what_pillow_could_open_but_is_not_listed_is_refused(format_: str) -> None:
    mode = "1" if format_ == "MSP" else "RGB"
    assert "is of no known picture format" in refusal(encoded(solid(0, mode), format_))


def test_a_png_of_178_megapixels_in_200_kilobytes_is_refused_from_its_header() -> None:
    rows = bytes((13_342 // 8 + 2) * 13_342)
    bomb = png(13_342, 13_342, bits=1, rows=rows)
    assert len(bomb) < 200_000
    said = refusal(bomb)
    assert "13342 x 13342 = 178008964 pixels; the limit is 20000000 (MINICPM_MAX_PICTURE_PIXELS)" in said
    assert "send it scaled down" in said


def huge_headers() -> dict[str, bytes]:
    """Give every format a header of 16000 x 16000 or more; between them all that Pillow would warn about."""
    jpeg = bytearray(SOUND["JPEG"])
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 16_000, 16_000)
    gif_screen, gif_frame = bytearray(SOUND["GIF"]), bytearray(encoded(solid(0), "GIF"))
    gif_screen[6:10] = struct.pack("<HH", 16_000, 16_000)
    at = gif_frame.rindex(b"," + struct.pack("<HHHH", 0, 0, 16, 16)) + 5
    gif_frame[at : at + 4] = struct.pack("<HH", 10_000, 10_000)
    bmp = bytearray(SOUND["BMP"])
    bmp[18:26] = struct.pack("<ii", 16_000, -16_000)
    canvas = (16_000 - 1).to_bytes(3, "little")
    packed = (16_000 - 1) | (16_000 - 1) << 14
    return {
        "jpeg": bytes(jpeg),
        "gif screen": bytes(gif_screen),
        "gif frame": bytes(gif_frame),
        "bmp": bytes(bmp),
        "webp canvas": riff_webp((b"VP8X", bytes(4) + canvas + canvas)),
        "webp lossless": riff_webp((b"VP8L", b"\x2f" + struct.pack("<I", packed))),
        "webp lossy": riff_webp((b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 16_000, 16_000))),
    }


@pytest.mark.parametrize("kind", huge_headers())
def test_every_format_is_bounded_by_its_header(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", None)  # no decoder is even made
    assert "the limit is 20000000" in refusal(huge_headers()[kind])


def test_the_limit_of_pixels_is_exact() -> None:
    assert decode_picture(png(20, 5), 0, PictureLimits(max_pixels=100, max_bytes=1_000)).size == (20, 5)
    assert "20 x 5 = 100 pixels; the limit is 99" in refusal(png(20, 5), PictureLimits(99, 1_000))


@pytest.mark.parametrize("size", [(201, 1), (1, 201), (10_000, 7)])
def test_an_extreme_shape_is_refused(size: tuple[int, int]) -> None:
    assert "one side may be at most 200 times the other" in refusal(png(*size))


@pytest.mark.parametrize("size", [(200, 1), (1, 200)])
def test_a_shape_at_the_limit_is_decoded(size: tuple[int, int]) -> None:
    assert decode_picture(png(*size), 0, LIMITS).size == size


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_a_header_without_pixels_is_refused(size: tuple[int, int]) -> None:
    assert "has no pixels" in refusal(png(*size, rows=b"\0"))


@pytest.mark.parametrize("kind", SOUND)
def test_a_cut_off_file_is_refused_wherever_it_is_cut(kind: str) -> None:
    data = SOUND[kind]
    spared = 2 if kind == "GIF" else 1  # a GIF is whole without its two closing bytes
    for length in range(1, len(data) - spared, max(1, len(data) // 60)):
        refusal(data[:length])


def test_a_file_that_states_two_sizes_is_refused() -> None:
    second = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 9_000, 9_000, 8, 0, 0, 0, 0))
    assert "is damaged" in refusal(png(8, 8, second))


def test_a_png_with_a_wrong_checksum_is_refused() -> None:
    data = bytearray(png(8, 8))
    data[-20] ^= 1
    assert "checksum" in refusal(bytes(data))


def test_text_and_profile_bombs_are_dropped_without_being_inflated() -> None:
    bomb = zlib.compress(bytes(50_000_000), 9)
    chunks = [
        png_chunk(b"zTXt", b"k\0\0" + bomb),
        png_chunk(b"iTXt", b"k\0\1\0\0\0" + bomb),
        png_chunk(b"iCCP", b"k\0\0" + bomb),
        png_chunk(b"gAMA", b""),
        png_chunk(b"acTL", struct.pack(">II", 0, 0)),
        png_chunk(b"fcTL", b"short"),
    ]
    began = time.monotonic()
    assert decode_picture(png(8, 8, *chunks), 0, LIMITS).size == (8, 8)
    assert time.monotonic() - began < 5


def test_hostile_jpeg_metadata_is_dropped_without_a_warning() -> None:
    data = with_segments(
        SOUND["JPEG"],
        jpeg_segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x1a\x01\x05\0\xff\xff\xff\xff" * 200),
        jpeg_segment(0xE2, b"MPF\0II*\0\x08\0\0\0\x01\0" + b"\xff" * 40),
        jpeg_segment(0xE2, b"ICC_PROFILE\0\x01\xff" + b"x" * 60_000),
        jpeg_segment(0xED, b"Photoshop 3.0\x008BIM" + b"\xff" * 100),
        b"junk",
        b"\xff" * 1_000_000 + jpeg_segment(0xFE, b"comment")[1:],
    )
    assert decode_picture(data, 0, LIMITS).size == (40, 30)


def test_files_of_countless_tiny_parts_are_refused() -> None:
    assert "chunks" in refusal(png(8, 8, png_chunk(b"IDAT") * 1_000_000))
    assert "segments" in refusal(with_segments(SOUND["JPEG"], jpeg_segment(0xFE, b"") * 1_000_000))
    assert "segments" in refusal(with_segments(SOUND["JPEG"], b"\xff\0" * 1_000_000))
    assert "chunks" in refusal(riff_webp((b"VP8X", bytes(10)), *[(b"ABCD", b"")] * 25_000))
    assert "blocks" in refusal(with_extension(b"\1x" * 1_000_000))
    assert "blocks" in refusal(with_extension(b"\0!\xfe" * 1_000_000))


def test_a_gif_with_comments_before_its_frame_is_decoded() -> None:
    assert decode_picture(with_extension(b"\1x" * 1_000 + b"\xff" + b"," * 255), 0, LIMITS).size == (40, 30)


def with_extension(blocks: bytes) -> bytes:
    gif = SOUND["GIF"]
    frame = 13 + (3 << (gif[10] & 7) + 1)
    return gif[:frame] + b"!\xfe" + blocks + b"\0" + gif[frame:]


def test_a_jpeg_of_countless_fill_bytes_is_refused_soon() -> None:
    assert "is cut off" in refusal(b"\xff\xd8" + b"\xff" * 5_000_000)


def test_a_jpeg_of_countless_scans_is_refused() -> None:
    data = SOUND["progressive"]
    last = data.rindex(b"\xff\xda")
    assert "scans" in refusal(data[:-2] + data[last:-2] * 200 + b"\xff\xd9")


def test_a_run_length_bmp_is_refused_because_pillow_expands_it_in_python() -> None:
    header = struct.pack("<2sIHHIIiiHHIIIIII", b"BM", 0, 0, 0, 54, 40, 4_000, 4_000, 1, 8, 1, 0, 0, 0, 0, 0)
    assert "only uncompressed BMP" in refusal(header + b"\1\0\0\0" * 4_000)


def test_running_out_of_memory_is_not_blamed_on_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", exhausted)
    with pytest.raises(MemoryError):
        decode_picture(SOUND["PNG"], 0, LIMITS)


@pytest.mark.parametrize("error", [SyntaxError, EOFError, struct.error, Image.DecompressionBombError, KeyError])
def test_whatever_a_decoder_raises_becomes_a_refusal(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error("at 0x7f00: b'secret'")

    monkeypatch.setattr(Image, "open", failing)
    assert refusal(SOUND["PNG"]) == "picture 3 (PNG) is damaged or cut off"


@pytest.mark.parametrize("bounds", [(0, 1, 2.0), (1, 0, 2.0), (1, 1, 0.5), (1, 1, float("nan"))])
def test_limits_that_decide_nothing_are_refused(bounds: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        PictureLimits(*bounds)


def test_no_limit_may_reach_the_number_where_pillow_begins_to_warn() -> None:
    assert Image.MAX_IMAGE_PIXELS == PILLOW_WARNS_ABOVE_PIXELS
    with pytest.raises(ValueError, match="max_pixels"):
        PictureLimits(max_pixels=PILLOW_WARNS_ABOVE_PIXELS + 1, max_bytes=1)


SMALL = PictureLimits(max_pixels=1_000_000, max_bytes=1_000_000)
MAGIC = st.sampled_from([data[:16] for data in SOUND.values()] + [b"II*\0", b"%!PS", b"<svg", b"\0\0\0\x18ftyp"])


def decoded_or_refused(data: bytes) -> None:
    began = time.monotonic()
    try:
        picture = decode_picture(data, 0, SMALL)
    except InvalidPicture:
        pass
    else:
        assert picture.mode == "RGB"
        assert picture.width * picture.height <= SMALL.max_pixels
    assert time.monotonic() - began < 5


@settings(max_examples=150, deadline=None)
@given(MAGIC, st.binary(max_size=400))
def test_random_bytes_are_decoded_or_refused(magic: bytes, rest: bytes) -> None:
    decoded_or_refused(rest)
    decoded_or_refused(magic + rest)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(SOUND)), st.data())
def test_damaged_files_are_decoded_or_refused(kind: str, draw: st.DataObject) -> None:
    data = bytearray(SOUND[kind])
    header_or_anywhere = st.integers(0, min(200, len(data) - 1)) | st.integers(0, len(data) - 1)
    for at in draw.draw(st.lists(header_or_anywhere, min_size=1, max_size=8)):
        data[at] ^= draw.draw(st.integers(1, 255))
    decoded_or_refused(bytes(data[: draw.draw(st.just(len(data)) | st.integers(0, len(data)))]))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf"]), st.binary(max_size=30))))
def test_png_chunks_with_right_checksums_and_wrong_contents_are_decoded_or_refused(
    chunks: list[tuple[bytes, bytes]],
) -> None:
    for colour in (0, 2, 3, 4, 6):
        decoded_or_refused(png(4, 4, *(png_chunk(*chunk) for chunk in chunks), colour=colour, rows=b"\0" * 80))
