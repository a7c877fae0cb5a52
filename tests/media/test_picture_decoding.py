"""Decoding: sound files of every kind become upright RGB pictures."""

import random
import struct
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from picture_files import FORMATS, LIMITS, encoded, exif, gradient, png, png_chunk, rgb_at, solid
from PIL import Image, ImageFile

from service.errors import InvalidPicture
from service.media.decoding import decode_picture

RED, WHITE = (255, 0, 0), (255, 255, 255)


def decoded(data: bytes) -> Image.Image:
    picture = decode_picture(data, 0, LIMITS)
    assert picture.mode == "RGB"
    assert not picture.info
    return picture


def test_lossless_formats_come_back_as_they_were() -> None:
    picture = gradient()
    for format_, options in (("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})):
        assert decoded(encoded(picture, format_, **options)).tobytes() == picture.tobytes()


@pytest.mark.parametrize("format_", FORMATS)
def test_each_format_decodes_close_to_the_original(format_: str) -> None:
    picture = decoded(encoded(solid((200, 100, 50)), format_))
    assert picture.size == (16, 16)
    assert all(abs(a - b) < 8 for a, b in zip(rgb_at(picture, 8, 8), (200, 100, 50), strict=True))


@pytest.mark.parametrize("format_", FORMATS)
def test_a_picture_of_one_pixel_is_decoded(format_: str) -> None:
    assert decoded(encoded(solid(RED, size=(1, 1)), format_)).size == (1, 1)


def test_a_progressive_jpeg_is_decoded() -> None:
    assert decoded(encoded(gradient(200, 100), "JPEG", progressive=True)).size == (200, 100)


def test_an_interlaced_gif_and_an_adobe_jpeg_keep_their_colours() -> None:
    assert rgb_at(decoded(encoded(solid(RED), "GIF", interlace=1)), 3, 3) == RED
    unconverted = encoded(solid(RED), "JPEG", keep_rgb=True)
    assert rgb_at(decoded(unconverted), 3, 3)[0] > 250


def test_a_cmyk_jpeg_becomes_rgb_and_is_not_inverted() -> None:
    red, green, blue = rgb_at(decoded(encoded(solid((0, 255, 255, 0), "CMYK"), "JPEG")), 8, 8)
    assert red > 250
    assert green < 5
    assert blue < 5


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    rows = b"\0" + struct.pack(">4H", 0, 255, 0x8000, 0xFFFF)
    picture = decoded(png(4, 1, bits=16, colour=0, rows=rows))
    assert [rgb_at(picture, x, 0)[0] for x in range(4)] == [0, 0, 0x80, 0xFF]


def test_sixteen_bit_colour_is_scaled() -> None:
    rows = b"\0" + struct.pack(">3H", 0xFFFF, 0x8000, 0)
    assert rgb_at(decoded(png(1, 1, bits=16, colour=2, rows=rows)), 0, 0) == (0xFF, 0x80, 0)


def test_one_bit_pictures_are_black_and_white() -> None:
    for format_ in ("PNG", "BMP", "GIF"):
        assert rgb_at(decoded(encoded(solid(1, "1"), format_)), 0, 0) == WHITE


def test_palette_colours_are_looked_up() -> None:
    for format_ in ("PNG", "BMP", "GIF"):
        assert rgb_at(decoded(encoded(solid(RED).quantize(4), format_)), 0, 0) == RED


@pytest.mark.parametrize("format_", ["PNG", "WEBP"])
def test_what_is_transparent_shows_white_whatever_colour_lies_under_it(format_: str) -> None:
    options = {"lossless": True, "exact": True} if format_ == "WEBP" else {}
    assert rgb_at(decoded(encoded(solid((255, 0, 0, 0), "RGBA"), format_, **options)), 0, 0) == WHITE


def test_what_is_half_transparent_is_blended_with_white() -> None:
    assert rgb_at(decoded(encoded(solid((0, 0, 0, 51), "RGBA"), "PNG")), 0, 0) == (204, 204, 204)
    assert rgb_at(decoded(encoded(solid((0, 51), "LA"), "PNG")), 0, 0) == (204, 204, 204)


def test_transparent_palette_entries_and_colour_keys_show_white() -> None:
    palette = solid(RED).quantize(4)
    index = palette.getpixel((0, 0))
    assert rgb_at(decoded(encoded(palette, "PNG", transparency=index)), 0, 0) == WHITE
    assert rgb_at(decoded(encoded(palette, "PNG", transparency=bytes(4))), 0, 0) == WHITE
    assert rgb_at(decoded(encoded(palette, "GIF", transparency=index)), 0, 0) == WHITE
    assert rgb_at(decoded(encoded(solid(RED), "PNG", transparency=RED)), 0, 0) == WHITE
    assert rgb_at(decoded(encoded(solid(9, "L"), "PNG", transparency=9)), 0, 0) == WHITE


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(format_: str, orientation: int) -> None:
    picture = Image.new("RGB", (32, 16), "black")
    picture.paste("white", (0, 0, 16, 8))  # the upper left quarter
    shown = decoded(encoded(picture, format_, exif=exif(orientation), quality=100))
    assert shown.size == ((32, 16) if orientation < 5 else (16, 32))
    width, height = shown.size
    corners = [(2, 2), (width - 3, 2), (width - 3, height - 3), (2, height - 3)]
    bright = [corner for corner, at in enumerate(corners) if rgb_at(shown, *at)[0] > 128]
    assert bright == [{1: 0, 2: 1, 3: 2, 4: 3, 5: 0, 6: 1, 7: 2, 8: 3}[orientation]]


@pytest.mark.parametrize("block", [b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"x" * 99])
def test_broken_exif_leaves_the_picture_as_it_is(block: bytes) -> None:
    assert decoded(png(3, 2, png_chunk(b"eXIf", block))).size == (3, 2)
    assert decoded(encoded(gradient(), "JPEG", exif=b"Exif\0\0" + block)).size == (40, 30)


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(format_: str) -> None:
    others = [solid((0, 0, blue)) for blue in range(100, 200)]
    options = {"lossless": True} if format_ == "WEBP" else {}
    data = encoded(solid(RED), format_, save_all=True, append_images=others, **options)
    assert rgb_at(decoded(data), 8, 8) == RED


def test_a_gif_frame_larger_than_its_screen_enlarges_the_picture() -> None:
    data = bytearray(encoded(solid(RED), "GIF"))
    data[6:10] = struct.pack("<HH", 1, 1)
    assert decoded(bytes(data)).size == (16, 16)


def test_a_bmp_with_rows_from_the_top_down_is_decoded() -> None:
    header = struct.pack("<2sIHHIIiiHHIIIIII", b"BM", 62, 0, 0, 54, 40, 1, -2, 1, 24, 0, 8, 0, 0, 0, 0)
    picture = decoded(header + b"\x00\x00\xff\x00" + b"\xff\x00\x00\x00")
    assert [rgb_at(picture, 0, y) for y in range(2)] == [RED, (0, 0, 255)]


def test_metadata_is_not_kept_and_the_file_is_not_held() -> None:
    picture = decoded(encoded(gradient(), "WEBP", exif=exif(1), icc_profile=b"x" * 200))
    assert type(picture) is Image.Image


def test_decoding_in_many_threads_gives_the_same_pictures_and_leaves_no_trace() -> None:
    files = [encoded(gradient(64 + n, 64), FORMATS[n % 5]) for n in range(20)]
    files += [data[: len(data) // 2] for data in files]
    random.Random(7).shuffle(files)
    traces = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))

    def outcome(data: bytes) -> bytes | str:
        try:
            return decode_picture(data, 0, LIMITS).tobytes()
        except InvalidPicture as refused:
            return refused.detail

    with ThreadPoolExecutor(8) as pool:
        concurrent = list(pool.map(outcome, files))
    assert concurrent == [outcome(data) for data in files]
    assert traces == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    assert threading.active_count() < 50
