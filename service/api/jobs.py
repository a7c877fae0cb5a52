"""Turns a validated request and its pictures into a `Job`.

Decodes pictures, so it runs on a thread; knows no model.
"""

import json
from dataclasses import dataclass

from PIL.Image import Image

from service.api.schemas import GenerateRequest, ImagePart, TextPart, Turn, VideoPart
from service.domain.generation import DEFAULT_NEW_TOKENS, Job, Message, Part, PictureRef, Processing, Sampling, VideoRef
from service.errors import InvalidField, InvalidPicture
from service.media.decoding import decode_picture
from service.media.limits import PictureLimits
from service.media.references import read_reference


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Bounds from the settings."""

    pictures: PictureLimits
    max_pictures: int
    max_new_tokens: int
    timeout_seconds: float


def build_job(
    wanted: GenerateRequest, files: list[bytes], limits: RequestLimits, job_id: str, arrived_at: float
) -> Job:
    """Decode the pictures and put them in their places.

    Args:
        wanted: The validated request.
        files: Contents of multipart files, for pictures that the request does not carry itself.
        limits: Bounds.
        job_id: The request id.
        arrived_at: `time.monotonic()` at which the request came in.

    Raises:
        InvalidField: Over a bound, or pictures and places differ in number.
        InvalidPicture: A picture cannot be used.
    """
    _check_lengths(wanted, limits.max_new_tokens)
    _check_pictures(wanted, len(files), limits.max_pictures)
    gallery = _Gallery(files, limits)
    messages = _messages(wanted, gallery)
    gallery.check_all_used()
    timeout = min(wanted.timeout_seconds or limits.timeout_seconds, limits.timeout_seconds)
    return Job(
        job_id=job_id,
        messages=messages,
        pictures=tuple(gallery.decode()),
        adapter_id=wanted.adapter,
        sampling=Sampling(
            max_new_tokens=wanted.max_new_tokens,
            temperature=wanted.temperature,
            top_p=wanted.top_p,
            top_k=wanted.top_k,
            repetition_penalty=wanted.repetition_penalty,
            seed=wanted.seed,
            stop=tuple(wanted.stop),
            is_logprobs=wanted.logprobs,
            min_p=wanted.min_p,
            presence_penalty=wanted.presence_penalty,
            frequency_penalty=wanted.frequency_penalty,
            min_new_tokens=wanted.min_new_tokens,
        ),
        deadline=arrived_at + timeout,
        processing=Processing(wanted.max_slice_nums, wanted.enable_thinking),
    )


def _check_lengths(wanted: GenerateRequest, limit: int) -> None:
    most = wanted.max_new_tokens
    if most is not None and most > limit:
        raise InvalidField.of([("max_new_tokens", f"{most} is more than {limit} (MINICPM_MAX_NEW_TOKENS)")])
    is_default = "" if most is not None else " by default"
    most = min(DEFAULT_NEW_TOKENS, limit) if most is None else most
    if wanted.min_new_tokens > most:
        detail = f"{wanted.min_new_tokens} is more than max_new_tokens, which is {most}{is_default}"
        raise InvalidField.of([("min_new_tokens", detail)])


def _check_pictures(wanted: GenerateRequest, num_files: int, limit: int) -> None:
    """Count every place that a picture or a frame takes, before one of them is decoded."""
    parts = [part for turn in wanted.messages or () if not isinstance(turn.content, str) for part in turn.content]
    frames = sum(len(part.timestamps) for part in parts if isinstance(part, VideoPart))
    alone = sum(isinstance(part, ImagePart) for part in parts) if wanted.messages else len(wanted.images) + num_files
    if frames + alone > limit:
        of_them = f", {frames} of them frames of videos" if frames else ""
        raise InvalidPicture(
            f"{frames + alone} pictures were sent{of_them}; the limit is {limit} (MINICPM_MAX_PICTURES); send fewer"
        )


class _Gallery:
    """Collects references to pictures in the order in which they stand in the conversation."""

    def __init__(self, files: list[bytes], limits: RequestLimits) -> None:
        self._files = files
        self._next_file = 0
        self._limits = limits
        self._sources: list[str | bytes] = []

    def place(self, reference: str | None) -> PictureRef:
        """Take the next picture: the reference's own, or the next file."""
        index = len(self._sources)
        if reference is not None:
            self._sources.append(reference)
        elif self._next_file < len(self._files):
            self._sources.append(self._files[self._next_file])
            self._next_file += 1
        else:
            raise InvalidPicture(
                f"picture {index}: its content item has no 'image', and there is no 'image' file part for it"
            )
        return PictureRef(index)

    def place_video(self, video: VideoPart) -> VideoRef:
        """Take the frames of a video: its own, or as many of the next files as it has times."""
        references = [None] * len(video.timestamps) if video.video is None else video.video
        frames = tuple(self.place(one) for one in references)
        return VideoRef(frames, tuple(video.timestamps), video.frames_per_pack)

    def rest(self) -> list[PictureRef]:
        """Place all files that are left."""
        return [self.place(None) for _ in range(len(self._files) - self._next_file)]

    def check_all_used(self) -> None:
        """Refuse files that no place in the conversation takes."""
        if unused := len(self._files) - self._next_file:
            place = json.dumps({"type": "image"})
            raise InvalidField.of(
                [("image", f"{unused} file part(s) have no place: put {place} into a message's content")]
            )

    def decode(self) -> list[Image]:
        """Decode every picture."""
        return [self._decode(index, source) for index, source in enumerate(self._sources)]

    def _decode(self, index: int, source: str | bytes) -> Image:
        data = read_reference(source, index, self._limits.pictures) if isinstance(source, str) else source
        return decode_picture(data, index, self._limits.pictures)


def _messages(wanted: GenerateRequest, gallery: _Gallery) -> tuple[Message, ...]:
    if wanted.messages is not None:
        return tuple(_message(turn, gallery) for turn in wanted.messages)
    pictures = [gallery.place(one) for one in wanted.images] + gallery.rest()
    return (Message("user", (*pictures, wanted.prompt or "")),)


def _message(turn: Turn, gallery: _Gallery) -> Message:
    if isinstance(turn.content, str):
        return Message(turn.role, (turn.content,))
    return Message(turn.role, tuple(_part(part, gallery) for part in turn.content))


def _part(part: TextPart | ImagePart | VideoPart, gallery: _Gallery) -> Part:
    if isinstance(part, TextPart):
        return part.text
    return gallery.place(part.image) if isinstance(part, ImagePart) else gallery.place_video(part)
