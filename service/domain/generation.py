"""One request's life inside the house: Job in, events out, Generation at the end.

Does not know HTTP, queues or tensors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


DEFAULT_NEW_TOKENS = 512
"""Most tokens of an answer whose request names no number."""


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    """The model ended its turn, or a stop string was reached."""
    LENGTH = "length"
    """`max_new_tokens` was reached."""
    CANCELLED = "cancelled"
    """The client hung up."""


@dataclass(frozen=True, slots=True)
class PictureRef:
    """A place in a message where the picture of that index stands."""

    index: int


@dataclass(frozen=True, slots=True)
class VideoRef:
    """A place in a message where the frames of one video stand.

    Attributes:
        frames: Places of their pictures, in the order of time.
        seconds: When each is shown, from the beginning of the video: one a frame, ascending, at least 0.
        frames_per_pack: How many of them share the tokens of one picture; None leaves it to the model.
    """

    frames: tuple[PictureRef, ...]
    seconds: tuple[float, ...]
    frames_per_pack: int | None = None


Part = str | PictureRef | VideoRef


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; its content is text, pictures and videos in order."""

    role: str
    content: tuple[Part, ...]

    @property
    def pictures(self) -> tuple[PictureRef, ...]:
        """Places for pictures in order, the frames of videos among them."""
        places = (part.frames if isinstance(part, VideoRef) else (part,) for part in self.content)
        return tuple(one for place in places for one in place if isinstance(one, PictureRef))


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens and when to stop."""

    max_new_tokens: int | None
    """None: as many as fit, up to the service's default."""
    temperature: float
    """0 chooses the likeliest token."""
    top_p: float
    top_k: int
    """0 keeps all tokens."""
    repetition_penalty: float
    seed: int | None
    stop: tuple[str, ...]
    is_logprobs: bool
    min_p: float = 0.0
    """Tokens less likely than that share of the likeliest are left out."""
    presence_penalty: float = 0.0
    """Taken once from the logit of every token that was generated."""
    frequency_penalty: float = 0.0
    """Taken from a token's logit as often as it was generated."""
    min_new_tokens: int = 0
    """Before that many the model cannot end its answer; a stop string still does."""


@dataclass(frozen=True, slots=True)
class Processing:
    """What a request asks of processor and chat template; None leaves it to the checkpoint."""

    max_slice_nums: int | None = None
    """Most slices of each picture, beside its thumbnail."""
    enable_thinking: bool | None = None
    """Whether the model thinks before it answers."""


AS_TUNED = Processing()
"""Nothing is asked of them."""


@dataclass(frozen=True, slots=True)
class Job:
    """One admitted request.

    Attributes:
        job_id: The request id, for logs and the response.
        adapter_id: Which adapter answers; None is the base.
        deadline: `time.monotonic()` value after which it is over.
    """

    job_id: str
    messages: tuple[Message, ...]
    pictures: tuple["Image", ...]
    adapter_id: str | None
    sampling: Sampling
    deadline: float
    processing: Processing = AS_TUNED


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One generated token and the logarithm of its probability.

    The probability is the model's own after penalties and `min_new_tokens`, and before temperature and narrowing.
    """

    token: str
    token_id: int
    logprob: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts of tokens; `prompt_tokens` includes `image_tokens`."""

    prompt_tokens: int
    image_tokens: int
    generated_tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went, in seconds; the time to the first token counts from arrival."""

    queue_seconds: float
    preprocess_seconds: float
    prefill_seconds: float
    decode_seconds: float
    time_to_first_token_seconds: float
    inter_token_seconds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenHealth:
    """Tokens of this request whose rows nobody trained, as id -> number of occurrences."""

    prompt: Mapping[int, int] = field(default_factory=dict)
    generated: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Text that is safe to show: whole characters, and no beginning of a stop string."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished answer."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    token_health: TokenHealth
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that ended in an error; `partial` is what there was of it, for the counters."""

    error: Exception
    partial: Generation | None = None


Event = TextPiece | Generation | Failure
"""What the engine sends back: any number of pieces, then exactly one Generation or Failure."""
