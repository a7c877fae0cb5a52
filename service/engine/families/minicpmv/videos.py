"""Frames of videos as MiniCPM-V 4.5 takes them: in packs that share a block, with times in tenths of a second.

Knows neither pixels nor prompts. Source: `encode_video` in the model card of MiniCPM-V 4.5.
"""

from collections.abc import Sequence

from service.domain.generation import Message, VideoRef
from service.domain.minicpmv import STILL

TIME_SCALE = 0.1
"""Seconds of one step of time."""
LONG_PACKS = 180
"""Packs that a video may have before the recipe packs more densely."""
DENSEST = 3
"""Most frames that the recipe packs together of its own accord; a request may ask for up to 6."""


def temporal_ids(messages: Sequence[Message]) -> list[list[int]] | None:
    """Return the times of a conversation's pictures, in groups that share blocks; None without a video.

    Returns:
        For each pack of frames their times in tenths of a second, and [-1] for each picture that is no frame, in the
        order of `Message.pictures`.
    """
    parts = [part for message in messages for part in message.content if not isinstance(part, str)]
    if not any(isinstance(part, VideoRef) for part in parts):
        return None
    return [group for part in parts for group in (_packs(part) if isinstance(part, VideoRef) else [[STILL]])]


def moment(seconds: float) -> int:
    """Return the tenth of a second that is nearest, as the recipe counts it.

    The recipe divides the nearest point of its scale by the scale and cuts the quotient off, so that for one point in
    twenty (4.3 s, 8.1 s, ...) it is the tenth before. The model is told the same here.

    Args:
        seconds: From the beginning of the video, at least 0.
    """
    return int(round(seconds / TIME_SCALE) * TIME_SCALE / TIME_SCALE)


def frames_per_pack(frames: int) -> int:
    """Return how many frames of a video share a block if the request does not say: 1, and more only beyond 180."""
    return min(-(-frames // LONG_PACKS), DENSEST)


def _packs(video: VideoRef) -> list[list[int]]:
    moments = [moment(one) for one in video.seconds]
    size = video.frames_per_pack or frames_per_pack(len(moments))
    return [moments[start : start + size] for start in range(0, len(moments), size)]
