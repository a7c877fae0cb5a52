"""The shapes of `/generate`: what a client may send and what it gets.

Knows the ranges, not what they do. Unknown fields are refused by name.
"""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

from service.explaining import HALF_A_PAIR

MAX_TURNS = 256
MAX_PARTS = 256
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 200
MAX_SLICES = 36
"""Most slices of a picture that a request may ask for: four times what the models are tuned with."""
MAX_FRAMES_PER_PACK = 6
"""Most frames of a pack, by the model card of MiniCPM-V 4.5."""
MAX_SECONDS = 7200
"""Latest time of a frame: the official table of times reaches two hours."""


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(HALF_A_PAIR) from None
    return text


Text = Annotated[str, AfterValidator(_encodable)]


def _ascending(seconds: list[float]) -> list[float]:
    for index, (before, one) in enumerate(pairwise(seconds), start=1):
        if one <= before:
            raise ValueError(f"number {index}, {one:g}, is not later than {before:g} before it; send frames in order")
    return seconds


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class TextPart(_Strict):
    """A piece of text in a message."""

    type: Literal["text"]
    text: Text


class ImagePart(_Strict):
    """A picture in a message: a data URL or base64; left out in multipart, where the next `image` file stands here."""

    type: Literal["image"]
    image: str | None = Field(None, description="data:image/png;base64,... or plain base64")


class VideoPart(_Strict):
    """A video in a message as frames with their times, for MiniCPM-V 4.5; other models answer 422."""

    type: Literal["video"]
    video: Annotated[list[str], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)] | None = Field(
        None,
        description="Its frames in order, each a picture: a data URL or base64; left out in multipart, where the next "
        "`image` files stand here, one for each timestamp.",
    )
    timestamps: Annotated[
        list[Annotated[float, Field(ge=0, le=MAX_SECONDS)]],
        Field(min_length=1, max_length=MAX_PARTS, fail_fast=True),
        AfterValidator(_ascending),
    ] = Field(description="When each frame is shown, in seconds from the beginning, ascending.")
    frames_per_pack: int | None = Field(
        None,
        ge=1,
        le=MAX_FRAMES_PER_PACK,
        description="How many frames share the tokens of one picture: more cost less and show less; 1 if left out, "
        "and 2 for more than 180 frames.",
    )

    @model_validator(mode="after")
    def _one_time_a_frame(self) -> Self:
        if self.video is not None and len(self.video) != len(self.timestamps):
            raise ValueError(
                f"video has {len(self.video)} frames and timestamps {len(self.timestamps)}; send one for each frame"
            )
        return self


def _form_of(content: object) -> str:
    return "parts" if isinstance(content, list) else "plain"


Part = Annotated[TextPart | ImagePart | VideoPart, Field(discriminator="type")]
Parts = Annotated[list[Part], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)]
Content = Annotated[Annotated[Text, Tag("plain")] | Annotated[Parts, Tag("parts")], Discriminator(_form_of)]


class Turn(_Strict):
    """One message of the conversation."""

    role: Literal["system", "user", "assistant"]
    content: Content


class GenerateRequest(_Strict):
    """A conversation to be answered; `prompt` with `images` is short for one user turn."""

    messages: Annotated[list[Turn], Field(min_length=1, max_length=MAX_TURNS, fail_fast=True)] | None = None
    prompt: Text | None = None
    images: Annotated[list[str], Field(max_length=MAX_PARTS, fail_fast=True)] = Field(default_factory=list)
    adapter: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        None, description="Which adapter answers; the base if left out."
    )
    max_new_tokens: int | None = Field(
        None, ge=1, le=1_000_000, description="Most tokens of the answer; 512 or what the context has room for."
    )
    min_new_tokens: int = Field(
        0, ge=0, le=1_000_000, description="Before that many tokens the model cannot end its answer; a stop string can."
    )
    temperature: float = Field(0.0, ge=0, le=5, description="0 takes the likeliest token.")
    top_p: float = Field(
        1.0, gt=0, le=1, description="Keeps the likeliest tokens that make up this share together; 1 keeps all."
    )
    top_k: int = Field(0, ge=0, le=1_000_000, description="0 keeps all tokens.")
    min_p: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Leaves out tokens that are less likely than this share of the likeliest; 0 keeps all.",
    )
    repetition_penalty: float = Field(
        1.0, ge=0.1, le=10, description="Over 1 makes tokens of the prompt and the answer so far less likely."
    )
    presence_penalty: float = Field(
        0.0, ge=-2, le=2, description="Taken once from the logit of every token that the answer has so far."
    )
    frequency_penalty: float = Field(
        0.0, ge=-2, le=2, description="Taken from a token's logit as often as the answer has it so far."
    )
    seed: int | None = Field(None, ge=0, le=2**63 - 1)
    stop: Annotated[
        list[Annotated[Text, StringConstraints(min_length=1, max_length=MAX_STOP_CHARACTERS)]],
        Field(max_length=MAX_STOPS, fail_fast=True),
    ] = Field(default_factory=list, description="Strings that end the answer and are not part of it.")
    stream: bool = False
    logprobs: bool = Field(False, description="Return the log-probability of every generated token.")
    max_slice_nums: int | None = Field(
        None,
        ge=1,
        le=MAX_SLICES,
        description="Most slices of each picture beside its thumbnail: fewer cost less and show less; what the "
        "checkpoint says if left out, and 1 beside a video. More than the model was tuned with make answers worse. "
        "422 for models that do not cut pictures.",
    )
    enable_thinking: bool | None = Field(
        None,
        description="Whether the model thinks first, which its answer then begins with, up to </think>; what the chat "
        "template does if left out, and false for MiniCPM-V 4.5. 422 for models whose template has no such switch.",
    )
    timeout_seconds: float | None = Field(None, gt=0, le=3600)

    @model_validator(mode="after")
    def _one_conversation(self) -> Self:
        if self.messages is None and self.prompt is None:
            raise ValueError("neither messages nor prompt was sent; send one of them")
        if self.messages is not None and self.prompt is not None:
            raise ValueError("both messages and prompt were sent; send one of them")
        if self.messages is not None:
            if self.images:
                raise ValueError("images goes with prompt; with messages, put pictures into the content")
            roles = [turn.role for turn in self.messages]
            if roles[-1] != "user":
                raise ValueError(f"the last message is the {roles[-1]}'s; it must be the user's")
            if "system" in roles[1:]:
                raise ValueError(f"message {roles.index('system', 1)} is the system's; only the first may be")
        return self


class UsageBody(BaseModel):
    """Counts of tokens; prompt_tokens includes image_tokens."""

    prompt_tokens: int
    image_tokens: int
    generated_tokens: int


class TimingsBody(BaseModel):
    """Where the time went, in seconds."""

    queue_seconds: float
    preprocess_seconds: float
    prefill_seconds: float
    decode_seconds: float
    time_to_first_token_seconds: float


class TokenOccurrences(BaseModel):
    """A token whose rows nobody trained, and how often it occurred."""

    id: int
    token: str
    count: int


class TokenHealthBody(BaseModel):
    """Tokens of this request whose rows nobody trained; empty lists are good."""

    undertrained_prompt_tokens: list[TokenOccurrences]
    undertrained_generated_tokens: list[TokenOccurrences]


class TokenLogprobBody(BaseModel):
    """One generated token."""

    token: str
    id: int
    logprob: float


class GenerateResponse(BaseModel):
    """A finished answer."""

    id: str
    text: str
    finish_reason: Literal["stop", "length"]
    adapter: str | None
    usage: UsageBody
    timings: TimingsBody
    token_health: TokenHealthBody
    logprobs: list[TokenLogprobBody] | None = None


class StreamPiece(BaseModel):
    """An event with the next piece of the text; never splits a character."""

    text: str
    logprobs: list[TokenLogprobBody] | None = None


class StreamSummary(BaseModel):
    """The event after the last piece."""

    finish_reason: Literal["stop", "length"]
    usage: UsageBody
    timings: TimingsBody
    token_health: TokenHealthBody


class Problem(BaseModel):
    """An error, after RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str | None
    errors: list[dict[str, str]] | None = None
    findings: list[dict[str, Any]] | None = None
