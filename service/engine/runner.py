"""Runs one sequence from prompt to end through the model's own `generate`.

Knows no queue and no thread. One sequence at a time for now; every family's positions, caches and masks are
transformers' own.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from service.domain.generation import Sampling
from service.engine.families.family import Encoded
from service.engine.sequence import RunningSequence
from service.errors import DeadlineExceeded, EngineFailed, OutOfMemory


class Runner:
    """Generates for one device.

    Args:
        device: Where the model is.
        stop_ids: Ids that end an answer.
        heartbeat: Called at every step.
    """

    def __init__(self, device: torch.device, stop_ids: tuple[int, ...], heartbeat: Callable[[], None]) -> None:
        self._device = device
        self._stop_ids = stop_ids
        self._heartbeat = heartbeat

    def run(self, sequence: RunningSequence, model: Any, encoded: Encoded) -> None:
        """Generate until the sequence is over.

        Raises:
            OutOfMemory: The device has too little memory for it.
            EngineFailed: The logits are not finite.
            DeadlineExceeded: Time is over.
        """
        sampling = sequence.job.sampling
        watch = _Watch(sequence, self._heartbeat)
        if sampling.seed is None:
            torch.seed()
        else:
            torch.manual_seed(sampling.seed)
        if self._is_out_of_memory(lambda: self._generate(sequence, model, encoded, watch)):
            torch.cuda.empty_cache()  # not inside the handler: there the traceback still holds the step's tensors
            raise OutOfMemory(
                f"the device has too little memory for a prompt of {len(sequence.prompt_ids)} tokens; "
                "send smaller or fewer pictures, or a shorter prompt"
            )
        if sequence.is_expired and sequence.finish_reason is None:
            raise DeadlineExceeded("the request's time is over before its answer was complete")

    def _generate(self, sequence: RunningSequence, model: Any, encoded: Encoded, watch: "_Watch") -> None:
        config = generation_config(
            sequence.job.sampling, sequence.max_new_tokens, self._stop_ids, model.generation_config.pad_token_id
        )
        with torch.inference_mode():
            model.generate(
                **encoded.on(self._device),
                generation_config=config,
                logits_processor=LogitsProcessorList([watch.logits]),
                stopping_criteria=StoppingCriteriaList([watch]),
            )

    @staticmethod
    def _is_out_of_memory(step: Callable[[], None]) -> bool:
        try:
            step()
        except torch.OutOfMemoryError:
            return True
        return False


def is_device_lost(error: BaseException) -> bool:
    """Say whether the device's context is gone, so that nothing will run on it in this process again."""
    return isinstance(error, torch.AcceleratorError)


def generation_config(
    sampling: Sampling, max_new_tokens: int, stop_ids: tuple[int, ...], pad_id: int | None
) -> GenerationConfig:
    """Translate a request's sampling; nothing is taken over from the checkpoint but its stop ids."""
    keywords: dict[str, Any] = {"do_sample": False}
    if sampling.temperature > 0:
        keywords = {
            "do_sample": True,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
        }
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        min_new_tokens=sampling.min_new_tokens,
        repetition_penalty=sampling.repetition_penalty,
        eos_token_id=list(stop_ids) or None,
        pad_token_id=pad_id if pad_id is not None else next(iter(stop_ids), 0),
        use_cache=True,
        **keywords,
    )


class _LogitsReader:
    """Sees the logits after penalties and before temperature; changes nothing."""

    def __init__(self, wants_logprobs: bool) -> None:
        self._wants_logprobs = wants_logprobs
        self.logprobs: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Keep the log-probabilities of this step `(1, vocabulary)`.

        Raises:
            EngineFailed: There is NaN or infinity where a number must be.
        """
        if not bool((scores.isfinite() | (scores == -torch.inf)).all()):
            raise EngineFailed("the model produced NaN or infinity; the answer would be noise")
        if self._wants_logprobs:
            self.logprobs = scores.float().log_softmax(dim=-1)
        return scores


class _Watch:
    """Hands every new token to the sequence, and ends generation when the sequence is over."""

    def __init__(self, sequence: RunningSequence, heartbeat: Callable[[], None]) -> None:
        self._sequence = sequence
        self._heartbeat = heartbeat
        self.logits = _LogitsReader(sequence.job.sampling.is_logprobs)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Return whether to stop, as `(1,)`."""
        self._heartbeat()
        token_id = int(input_ids[0, -1])
        known = self.logits.logprobs
        self._sequence.push(token_id, float(known[0, token_id]) if known is not None else None)
        is_over = self._sequence.finish_reason is not None or self._sequence.is_expired
        return torch.full((input_ids.shape[0],), is_over, device=input_ids.device, dtype=torch.bool)
