"""Turns a job into what the engine computes: encoded, measured, and with room for its answer.

Knows no device and no queue; called on the threads that serve requests.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from jinja2 import TemplateError

from service.domain.generation import Event, Job
from service.engine.families.family import Encoded, Encoder, picture_count
from service.engine.loading import LoadedModel
from service.engine.prepared import Prepared
from service.engine.prompt import build_prompt
from service.engine.sequence import RunningSequence
from service.engine.threads import compute_alone
from service.errors import InvalidField, PromptTooLong
from service.wording import without_folders


class Preparer:
    """Prepares jobs for one model.

    Args:
        loaded: The model.
        max_tokens: Tokens that prompt and answer may have together.
        default_new_tokens: Tokens of an answer that does not say how many.
    """

    def __init__(self, loaded: LoadedModel, max_tokens: int, default_new_tokens: int) -> None:
        self._loaded = loaded
        self._max_tokens = max_tokens
        self._default_new_tokens = default_new_tokens
        self._undertrained: Mapping[str | None, Mapping[int, str]] = {}

    def watch_tokens(self, undertrained: Mapping[str | None, Mapping[int, str]]) -> None:
        """Count these tokens in prompts and answers, by adapter."""
        self._undertrained = undertrained

    def prepare(self, job: Job, sink: Callable[[Event], None], arrived_at: float) -> Prepared:
        """Encode a job; see `Engine.prepare`."""
        started = time.monotonic()
        compute_alone()
        loaded = self._loaded
        view = loaded.view(job.adapter_id)
        if picture_count(job.messages) and not loaded.family.accepts_pictures:
            raise InvalidField("messages: this model reads text only; send no pictures")
        encoded = _encode(view.encoder, job)
        max_new_tokens = self._answer_room(len(encoded.prompt_ids), job.sampling.max_new_tokens)
        prompt = build_prompt(loaded.family, view, encoded)
        sequence = RunningSequence(
            replace(job, pictures=()),  # what waits must not keep pixels in memory
            prompt_ids=encoded.prompt_ids,
            image_tokens=encoded.image_tokens,
            max_new_tokens=max_new_tokens,
            tokenizer=view.encoder.tokenizer,
            control_ids=view.encoder.control_ids,
            stop_ids=loaded.stop_ids,
            undertrained=self._undertrained.get(job.adapter_id, {}),
            arrived_at=arrived_at,
            preprocess_seconds=time.monotonic() - started,
            sink=sink,
        )
        return Prepared(sequence, prompt)

    def _answer_room(self, prompt_tokens: int, wanted: int | None) -> int:
        """Return how many tokens the answer may have."""
        limit = self._max_tokens
        room = limit - prompt_tokens
        if room < (wanted or 1):
            whose = "the model's" if limit == self._loaded.context_tokens else "what MINICPM_CACHE_MEMORY holds:"
            fewer = f", or ask for at most {room} tokens" if room > 0 else ""
            raise PromptTooLong(
                f"the prompt has {prompt_tokens} tokens and the answer may have {wanted or 1}, together more than "
                f"{whose} {limit}; shorten the prompt or send fewer pictures{fewer}"
            )
        return wanted or min(self._default_new_tokens, room)


def _encode(encoder: Encoder, job: Job) -> Encoded:
    try:
        return encoder.encode(job.messages, job.pictures, job.processing)
    except (TemplateError, ValueError) as error:
        reason = without_folders(str(error)).strip().splitlines()[0:1]
        raise InvalidField(
            f"messages: this model's chat template or processor does not take them: {' '.join(reason)[:150]}"
        ) from error
