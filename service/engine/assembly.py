"""Puts the parts of a running engine together, around one loaded model.

Decides nothing but how the memory for caches is shared out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import Cache

from service.domain.stats import StepStats
from service.engine.batch import Batch
from service.engine.decoding import Decoder
from service.engine.lean import make_lean, make_prompts_lean, pack
from service.engine.loading import LoadedModel
from service.engine.memory import cache_budget, free_bytes
from service.engine.pace import Pace
from service.engine.prefill import Prefiller
from service.engine.prompt import Prompt, build_prompt
from service.engine.recorded import Recorder, recorder_for
from service.engine.remembered import FeatureMemory, StateMemory
from service.engine.rowwise import row_wise
from service.engine.slots import BatchedSlots, SeparateSlots, Slots, can_batch

UNKNOWN_CONTEXT = 1 << 20
"""Tokens, for a model whose config names no limit: the memory sets one."""
SLOTS_SHARE, PICTURES_SHARE, PREFIXES_SHARE = 0.75, 0.1, 0.15
"""Of the memory for caches."""
LARGEST_PIECE = {"cuda": 2048, "cpu": 512}
"""Tokens of a prompt that are computed at once when nobody decodes: what a cancelled one may cost."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A running engine's parts; the batch uses the others."""

    batch: Batch
    slots: Slots
    features: FeatureMemory
    states: StateMemory


def assemble(
    loaded: LoadedModel,
    max_running: int,
    cache_memory: float | None,
    observe: Callable[[StepStats], None],
    largest_piece: int | None = None,
    recorder: Recorder | None = None,
) -> Parts:
    """Take memory for caches and build what runs the model.

    Args:
        loaded: The model.
        max_running: Sequences at once, if the memory has room for them.
        cache_memory: See `memory.cache_budget`.
        observe: Told about every step.
        largest_piece: Tokens of a prompt computed at once at most; None chooses by device.
        recorder: Records decode steps; None chooses by device.

    Raises:
        ServiceError: The model cannot compute a prompt.
    """
    device = loaded.device
    budget = cache_budget(device, cache_memory)
    features = FeatureMemory(int(budget * PICTURES_SHARE))
    states = StateMemory(int(budget * PREFIXES_SHARE))
    prefiller = Prefiller(loaded.family, device, features, states)
    prompt, cache, vocabulary = _example(loaded, prefiller)
    slots = _slots(loaded, cache, int(budget * SLOTS_SHARE), max_running)
    rowwise = row_wise(loaded.base.model, {name: view.model for name, view in loaded.adapters.items()})
    pack(rowwise.model, free_bytes(device))
    make_lean(rowwise.model)
    for view in (loaded.base, *loaded.adapters.values()):
        make_prompts_lean(view.model)
    decoder = Decoder(loaded.adapters, rowwise, slots, vocabulary, device, recorder or recorder_for(device))
    decoder.prove(prompt, cache)
    pace = Pace(largest_piece or LARGEST_PIECE.get(device.type, LARGEST_PIECE["cpu"]))
    return Parts(Batch(prefiller, decoder, slots, states, pace, device, observe), slots, features, states)


def _example(loaded: LoadedModel, prefiller: Prefiller) -> tuple[Prompt, Cache, int]:
    """Compute a short prompt to see what the model keeps of it, and how many logits it gives."""
    message, pictures = loaded.family.probe()
    prompt = build_prompt(loaded.family, loaded.base, loaded.base.encoder.encode([message], pictures))
    progress = prefiller.begin(prompt)
    while prefiller.encode([progress]):
        pass
    logits: torch.Tensor | None = None
    while logits is None:
        logits = prefiller.advance(progress, prompt.tokens)
    return prompt, progress.cache, logits.shape[-1]


def _slots(loaded: LoadedModel, example: Cache, budget: int, max_running: int) -> Slots:
    """Cut the memory into slots."""
    context = loaded.context_tokens or UNKNOWN_CONTEXT
    if can_batch(example):
        return BatchedSlots(example, budget, context, max_running)
    return SeparateSlots(context, max_running, loaded.device)
