"""References: what a client writes for a picture."""

import base64
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import LIMITS, encoded, gradient

from service.errors import InvalidPicture
from service.media.limits import PictureLimits
from service.media.references import read_reference

JPEG = encoded(gradient(), "JPEG")
PNG = encoded(gradient(), "PNG")
PNG_TEXT = base64.b64encode(PNG).decode()


def refusal(reference: str, limits: PictureLimits = LIMITS) -> str:
    with pytest.raises(InvalidPicture) as caught:
        read_reference(reference, 3, limits)
    assert caught.value.detail.startswith("picture 3 ")
    return caught.value.detail


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "data:image/png;base64,",
        "DATA:IMAGE/PNG;BASE64,",
        "data:;base64,",
        "data:image/png;charset=utf-8;base64,",
        "data:image/png; charset=utf-8; base64, ",
        "data:application/octet-stream;base64,",
    ],
)
def test_data_urls_and_bare_base64_are_read(prefix: str) -> None:
    assert read_reference(prefix + PNG_TEXT, 0, LIMITS) == PNG


def test_white_space_in_base64_is_tolerated() -> None:
    wrapped = base64.encodebytes(PNG).decode().replace("\n", "\r\n")
    assert read_reference(f"  data:image/png;base64,\r\n{wrapped}\t", 0, LIMITS) == PNG


@pytest.mark.parametrize("data", [b"abcd", b"abcde", b"abcdef"])
def test_missing_padding_is_tolerated(data: bytes) -> None:
    assert read_reference(base64.b64encode(data).decode().rstrip("="), 0, LIMITS) == data


def test_a_bare_jpeg_is_not_taken_for_a_path_though_it_begins_with_a_slash() -> None:
    text = base64.b64encode(JPEG).decode()
    assert text.startswith("/9j/")
    assert read_reference(text, 0, LIMITS) == JPEG


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("http://127.0.0.1/a.png", "http"),
        ("HTTPS://user:secret@example.com/a.png", "https"),
        ("http://ok\\@evil/", "http"),
        ("http:169.254.169.254", "http"),
        (" http://2130706433/ ", "http"),
        ("file:///etc/passwd", "file"),
        ("ftp://example.com/a.png", "ftp"),
        ("gopher://example.com", "gopher"),
        ("blob:https://example.com/1", "blob"),
        ("s3://bucket/key", "s3"),
        ("javascript:alert(1)", "javascript"),
    ],
)
def test_a_url_is_refused_by_its_scheme_and_is_never_fetched(url: str, scheme: str) -> None:
    detail = refusal(url)
    assert f"is a {scheme}: URL; fetching pictures is not supported" in detail
    assert "data URL" in detail
    assert "file part" in detail


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "./a.png",
        "../../etc/shadow",
        "~/a.png",
        "a.png",
        "C:\\a.png",
        "C:/a",
        "\\\\host\\share",
        "//example.com/a.png",
        "example.com/a.png",
    ],
)
def test_a_path_is_refused_as_one(path: str) -> None:
    assert "looks like a file path or a host name" in refusal(path)


@pytest.mark.parametrize("url", ["data:image/svg+xml,%3Csvg%3E", "data:,hello", "data:image/png;charset=utf-8,x"])
def test_a_percent_encoded_data_url_is_refused(url: str) -> None:
    assert "percent-encoding" in refusal(url)


def test_percent_encoded_base64_is_refused_with_a_hint() -> None:
    text = quote(base64.b64encode(b"\xfb\xff" * 20), safe="")
    assert "do not percent-encode it" in refusal(f"data:image/png;base64,{text}")


def test_a_data_url_of_another_media_type_is_refused() -> None:
    assert "media type 'text/html'" in refusal(f"data:text/html;base64,{PNG_TEXT}")


@pytest.mark.parametrize("reference", ["data:image/png;base64", "data:" + "x" * 1000 + ";base64,AAAA", "data:"])
def test_a_data_url_without_a_comma_near_its_start_is_refused(reference: str) -> None:
    assert "without a comma" in refusal(reference)


@pytest.mark.parametrize("reference", ["", "   ", "data:image/png;base64,", "data:;base64,  ", "===="])
def test_an_empty_reference_is_refused(reference: str) -> None:
    assert "is empty" in refusal(reference)


@pytest.mark.parametrize("text", ["AAAAA", "AA=A", "AAAA_AAA", "AAAA\0AAA", "AAAÄ", "AAAA\ud800"])
def test_what_is_not_base64_is_refused(text: str) -> None:
    assert "is not base64" in refusal(text)


def test_a_reference_over_the_byte_limit_is_refused_with_both_numbers() -> None:
    limits = PictureLimits(max_pixels=1, max_bytes=99)
    assert read_reference(base64.b64encode(b"x" * 99).decode(), 0, limits) == b"x" * 99
    assert "is 100 bytes; the limit is 99" in refusal(base64.b64encode(b"x" * 100).decode(), limits)


def test_a_huge_reference_is_refused_by_its_length_without_being_decoded() -> None:
    limits = PictureLimits(max_pixels=1, max_bytes=1_000)
    assert "1000000 characters long" in refusal("A" * 1_000_000, limits)
    assert "1000000 characters long" in refusal(" " * 1_000_000, limits)


def test_a_refusal_repeats_neither_credentials_nor_long_input() -> None:
    assert "secret" not in refusal("https://user:secret@example.com/")
    assert "passwd" not in refusal("/etc/passwd")
    assert len(refusal("data:" + "é\n" * 100 + ";base64,AAAA")) < 250
    assert len(refusal("a" * 10_000 + ":")) < 250


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=100) | st.text(max_size=60).map(lambda text: "data:" + text))
def test_any_text_gives_bytes_or_a_short_refusal(reference: str) -> None:
    try:
        assert isinstance(read_reference(reference, 0, LIMITS), bytes)
    except InvalidPicture as refused:
        assert len(refused.detail) < 250  # noqa: PT017  either outcome is right


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_what_was_encoded_comes_back(data: bytes) -> None:
    assert read_reference("data:image/png;base64," + base64.b64encode(data).decode(), 0, LIMITS) == data
