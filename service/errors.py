"""The error tree: every failure that leaves a room, with its status, kind and whether a retry can help.

    ServiceError
    ├── RequestError            the client's mistake; the same request fails again
    │   ├── InvalidField        422  a field is unknown, of the wrong type or out of range
    │   ├── InvalidPicture      422  a picture cannot be used
    │   ├── PromptTooLong       400  prompt and answer do not fit the context
    │   ├── BodyTooLarge        413
    │   ├── UnsupportedMedia    415
    │   ├── MalformedBody       400  not JSON, not multipart, cut off
    │   ├── Unauthorized        401
    │   ├── NotFound            404  no such route or subject
    │   └── MethodNotAllowed    405
    ├── AdapterUnknown          404  no adapter of that name is configured
    ├── AdapterRefused          503  configured, but the audit refused it
    ├── Overloaded              429  the queue is full
    ├── NotReady                503  starting or draining
    ├── Refused                 503  the audit refused the base, or the process is broken
    ├── DeadlineExceeded        504
    ├── EngineFailed            500  a step failed; the next request is served
    ├── OutOfMemory             500  the request is too large for the device
    └── CheckpointError              never reaches a client: ends loading
        ├── CheckpointUnreadable     a file is missing, truncated, too large or not what it says
        ├── CheckpointUnsupported    no family serves this model
        └── UnsafeCheckpoint         pickle weights, or code that no setting allows

Knows no HTTP framework; `api/problems.py` renders these.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar


class ServiceError(Exception):
    """A failure that a client or an operator is told about, in one plain sentence."""

    status: ClassVar[int] = HTTPStatus.INTERNAL_SERVER_ERROR
    kind: ClassVar[str] = "internal"
    is_retryable: ClassVar[bool] = False

    def __init__(
        self, detail: str, *, retry_after_seconds: int | None = None, extra: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds
        self.extra: Mapping[str, Any] = extra or {}


class RequestError(ServiceError):
    """The request cannot be served as it is; sending it again fails again."""

    status = HTTPStatus.BAD_REQUEST
    kind = "request"


class InvalidField(RequestError):
    """One or more fields are unknown, of the wrong type or out of range."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    kind = "invalid-field"

    @classmethod
    def of(cls, problems: Sequence[tuple[str, str]]) -> "InvalidField":
        """Build one error out of (field, what is wrong) pairs."""
        detail = "; ".join(f"{field}: {text}" for field, text in problems)
        return cls(detail, extra={"errors": [{"field": field, "detail": text} for field, text in problems]})


class InvalidPicture(RequestError):
    """A picture cannot be decoded or is over a limit."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    kind = "invalid-picture"


class PromptTooLong(RequestError):
    """Prompt and requested answer do not fit the model's context."""

    kind = "prompt-too-long"


class MalformedBody(RequestError):
    """The body is not what its content type says."""

    kind = "malformed-body"


class BodyTooLarge(RequestError):
    """The body is over the limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    kind = "body-too-large"


class UnsupportedMedia(RequestError):
    """The content type is neither JSON nor multipart form data."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    kind = "unsupported-media-type"


class Unauthorized(RequestError):
    """The API key is missing or wrong."""

    status = HTTPStatus.UNAUTHORIZED
    kind = "unauthorized"


class NotFound(RequestError):
    """There is no such route."""

    status = HTTPStatus.NOT_FOUND
    kind = "not-found"


class MethodNotAllowed(RequestError):
    """The route exists, the method does not."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    kind = "method-not-allowed"


class AdapterUnknown(RequestError):
    """No adapter of that name is configured."""

    status = HTTPStatus.NOT_FOUND
    kind = "adapter-unknown"

    @classmethod
    def among(cls, adapter_id: str, known: Sequence[str]) -> "AdapterUnknown":
        """Build one that names the adapters that there are."""
        there_are = f"there are {', '.join(known)}" if known else "none is (MINICPM_ADAPTERS)"
        return cls(f"no adapter {adapter_id!r} is configured; {there_are}")


class AdapterRefused(ServiceError):
    """The adapter is configured, but the audit refused it."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "adapter-refused"


class Overloaded(ServiceError):
    """The queue is full; nothing waits without a bound."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    kind = "overloaded"
    is_retryable = True


class NotReady(ServiceError):
    """The service does not admit jobs now."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "not-ready"
    is_retryable = True


class Refused(ServiceError):
    """Nothing is served until somebody acts: the base was refused, or the process is broken."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "refused"


class DeadlineExceeded(ServiceError):
    """The request's time is over before its answer was complete."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    kind = "deadline-exceeded"


class EngineFailed(ServiceError):
    """The model failed on this request; the next one is served."""

    kind = "engine-failed"
    is_retryable = True


class OutOfMemory(ServiceError):
    """The request is too large for the device's memory; the next one is served."""

    kind = "out-of-memory"


class CheckpointError(ServiceError):
    """A folder cannot be served; ends loading."""

    kind = "checkpoint"


class CheckpointUnreadable(CheckpointError):
    """A file is missing, truncated, too large or not what it says it is."""

    kind = "checkpoint-unreadable"


class CheckpointUnsupported(CheckpointError):
    """No family of this service knows the model."""

    kind = "checkpoint-unsupported"


class UnsafeCheckpoint(CheckpointError):
    """The folder holds pickle weights, or wants to run code that no setting allows."""

    kind = "checkpoint-unsafe"
