"""Computes prompts: pictures first, then ids or embeddings a piece at a time, into a cache of the prompt's own.

Knows no slot and no queue; the thread that owns the device calls it.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import Cache

from service.engine.families.family import Family
from service.engine.families.pictures import PicturePart, PromptInputs
from service.engine.heads import last_logits
from service.engine.prompt import Prompt, takes_positions
from service.engine.remembered import FeatureMemory, StateMemory
from service.engine.slots import new_cache

TOGETHER = {"cuda": 16384, "cpu": 1024}
"""Patches that are encoded together: enough to fill a GPU, one slice on a CPU, where more only make others wait."""


@dataclass(eq=False)
class Progress:
    """How far a prompt is, with what is known of its answer behind it if it is computed again.

    Attributes:
        cache: What is computed so far.
        done: Tokens in it.
        split: Where its beginning is to be kept, or None.
        features: Its parts' features, as far as they are there, by digest.
        inputs: How it enters the model, once its parts' features are there.
        answer: Ids behind the prompt.
    """

    prompt: Prompt
    cache: Cache
    done: int = 0
    split: int | None = None
    features: dict[bytes, Any] = field(default_factory=dict)
    inputs: PromptInputs | None = None
    answer: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens to be computed in all."""
        return self.prompt.tokens + len(self.answer)

    @property
    def remaining(self) -> int:
        """Tokens still to be computed."""
        return self.tokens - self.done

    def missing(self) -> list[PicturePart]:
        """Return the parts without features, each once."""
        parts = {one.digest: one for one in self.prompt.parts if one.digest not in self.features}
        return list(parts.values()) if self.inputs is None else []


class Prefiller:
    """Computes prompts on one device.

    Args:
        family: How the model takes pictures.
        device: Where the model is.
        features: Remembers pictures.
        states: Remembers beginnings.
    """

    def __init__(self, family: Family, device: torch.device, features: FeatureMemory, states: StateMemory) -> None:
        self._family = family
        self._device = device
        self._features = features
        self._states = states
        self._together = TOGETHER.get(device.type, TOGETHER["cpu"])

    def begin(self, prompt: Prompt, answer: Sequence[int] = ()) -> Progress:
        """Start a prompt, where a remembered beginning ends if there is one.

        Args:
            prompt: Which.
            answer: Ids that were behind it when it was computed before.
        """
        progress = Progress(prompt, new_cache(prompt.view.model), answer=tuple(answer))
        if (names := prompt.names) is not None:
            done, cache = self._states.find(names)
            if cache is not None:
                progress.cache, progress.done = cache, done
            shared = self._states.shared(names)
            if shared > done and not answer and not self._states.has(names, shared):
                progress.split = shared
        self._states.hit_tokens += progress.done
        self._states.missed_tokens += prompt.tokens - progress.done
        for part in prompt.parts:
            known = self._features.get(prompt.view.tower, part.digest)
            if known is not None:
                progress.features[part.digest] = known
                self._features.hits += 1
        self._features.misses += len(progress.missing())
        return progress

    def forget(self) -> None:
        """Give back the memory of all that is remembered."""
        self._features.forget()
        self._states.forget()

    def encode(self, prompts: Sequence[Progress], between: Callable[[], None] = lambda: None) -> int:
        """Encode pictures that the first prompt misses, with others of the same vision tower while there is room.

        Args:
            prompts: Who waits for pictures.
            between: Called between two layers of the vision tower.

        Returns:
            How many parts were encoded; 0 if the first prompt misses none.
        """
        first = prompts[0]
        if not first.missing():
            return 0
        tower, size = first.prompt.view.tower, 0
        taken: dict[bytes, PicturePart] = {}
        for progress in prompts:
            for part in progress.missing() if progress.prompt.view.tower == tower else ():
                if taken and size + part.size > self._together:
                    break
                size += 0 if part.digest in taken else part.size
                taken[part.digest] = part
        model = first.prompt.view.model
        with torch.inference_mode(), _pausing(model, between):
            found = self._family.pictures.encode(model, list(taken.values()), self._device)
        for digest, features in zip(taken, found, strict=True):
            self._features.put(tower, digest, features)
            for progress in prompts:
                if progress.prompt.view.tower == tower:
                    progress.features.setdefault(digest, features)
        return len(taken)

    def advance(self, progress: Progress, tokens: int) -> torch.Tensor | None:
        """Compute some more of a prompt whose pictures are encoded.

        Args:
            progress: Changed in place.
            tokens: At most so many, unless the model takes this prompt whole only.

        Returns:
            The logits behind all of it, `(1, vocabulary)`, once it is whole.
        """
        prompt = progress.prompt
        with torch.inference_mode():
            if progress.inputs is None:
                progress.inputs = self._inputs(progress)
            end = self._end_of_piece(progress, tokens, can_chunk=progress.inputs.can_chunk)
            logits = self._forward(progress, progress.inputs, end)
            progress.done = end
            if end == progress.split and prompt.names is not None:
                self._states.keep(prompt.names, end, partial(copy.deepcopy, progress.cache))
        return logits

    @staticmethod
    def _end_of_piece(progress: Progress, tokens: int, *, can_chunk: bool) -> int:
        """Return where to stop: at the latest where the prompt ends, its answer comes in pieces of its own."""
        whole = progress.prompt.tokens
        if progress.done >= whole:
            return min(progress.done + tokens, progress.tokens)
        if not can_chunk:
            return whole
        end, split = min(progress.done + tokens, whole), progress.split
        return split if split is not None and progress.done < split < end else end

    def _inputs(self, progress: Progress) -> PromptInputs:
        prompt = progress.prompt
        features = [progress.features[one.digest] for one in prompt.parts]
        inputs = self._family.pictures.inputs(prompt.view.model, prompt.tensors, features, self._device)
        progress.features = {}
        return inputs

    def _forward(self, progress: Progress, inputs: PromptInputs, end: int) -> torch.Tensor | None:
        prompt, model = progress.prompt, progress.prompt.view.model
        keywords = dict(inputs.keywords)
        if progress.done >= prompt.tokens:
            ids = progress.answer[progress.done - prompt.tokens : end - prompt.tokens]
            keywords = {"input_ids": torch.tensor([ids], device=self._device)}
        elif inputs.can_chunk:
            keywords = {name: one[:, progress.done : end] for name, one in keywords.items()}
        if takes_positions(model):
            places = prompt.places(progress.done, end).to(self._device)
            keywords["position_ids"] = places if len(places) > 1 else places[0]
        is_last = end == progress.tokens
        with last_logits(model, int(is_last)):
            output = model(**keywords, past_key_values=progress.cache, use_cache=True)
        return output.logits[:, -1] if is_last else None


@contextmanager
def _pausing(model: Any, between: Callable[[], None]) -> Iterator[None]:
    """Call something before each layer of whatever does not decode: the vision tower's, whatever it is called."""
    decoding = set(model.get_decoder().modules())
    lists = [one for one in model.modules() if isinstance(one, nn.ModuleList) and one not in decoding]
    with ExitStack() as stack:
        for layer in (layer for one in lists for layer in one):
            stack.callback(layer.register_forward_pre_hook(lambda *_: between()).remove)
        yield
