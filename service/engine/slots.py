"""Where sequences keep their keys, values and recurrent states while they decode.

Knows no request: rows are numbers, kept dense by the caller. A prompt is computed in a cache of its own and put into
a row; a decode step sees the first rows of every layer as one batch, in place.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import (
    CacheLayerMixin,
    DynamicLayer,
    LinearAttentionCacheLayerMixin,
    LinearAttentionLayer,
)

WIDTH = 64
"""Rows are read up to a multiple of so many tokens."""
STATE_SHARE = 0.5
"""Most of the budget that may go to states of constant size."""


class Slots(Protocol):
    """What the decoder needs of a store."""

    num_slots: int
    max_tokens: int
    lengths: torch.Tensor
    is_whole: bool
    """False once making room broke off half way: then all rows are lost, and must go."""

    def fits(self, needs: Sequence[int]) -> bool:
        """Say whether sequences of so many tokens, prompt and answer together, fit beside one another."""

    def insert(self, row: int, cache: Cache, tokens: int, need: int) -> None:
        """Put a prompt's cache of `tokens` into the row behind the last."""

    def move(self, source: int, target: int) -> None:
        """Copy a row over another."""

    def pop(self) -> None:
        """Forget the last row."""

    def scrub(self, row: int) -> None:
        """Overwrite all that a row ever held: it may be NaN, which would reach whoever gets the place next."""

    def extract(self, row: int, tokens: int) -> Cache:
        """Copy a row out, as a prompt's cache of `tokens`."""

    def select(self, first: int, count: int, tokens: int) -> Cache:
        """Return rows as a cache to decode with, whose longest holds `tokens` before the step."""

    @property
    def usage(self) -> float:
        """Share of the store in use, 0 to 1."""


class _Attention(CacheLayerMixin):  # type: ignore[misc]  # transformers has no types
    """Keys and values of every row, `(rows, heads, capacity, head size)`, in flat tensors that are cut anew on demand.

    A sequence of the capacity's length must fit every row, so the number of rows falls as the longest one grows.
    """

    is_sliding = False

    def __init__(self, example: DynamicLayer, pool_tokens: int, lengths: torch.Tensor) -> None:
        super().__init__()
        keys, values = example.keys, example.values
        assert keys is not None and values is not None  # noqa: S101, PT018 - an example is a filled layer
        self._shapes = [(one.shape[1], one.shape[3]) for one in (keys, values)]
        self._flat = [_zeros(pool_tokens * one.shape[1] * one.shape[3], one) for one in (keys, values)]
        self._whole: list[torch.Tensor] = []
        self._lengths = lengths
        self._first, self._count, self._width = 0, 0, 0
        self._rows = torch.arange(len(lengths), device=lengths.device)
        self.is_initialized = True

    def cut(self, rows: int, capacity: int, used: int) -> None:
        """Cut the flat tensors into rows of another capacity, keeping the first `used` rows."""
        kept = [one[:used, :, : min(capacity, one.shape[2])].clone() for one in self._whole]
        self._whole = [
            flat[: rows * heads * capacity * size].view(rows, heads, capacity, size)
            for flat, (heads, size) in zip(self._flat, self._shapes, strict=True)
        ]
        for whole, old in zip(self._whole, kept, strict=bool(kept)):
            whole[:used, :, : old.shape[2]] = old

    def insert(self, row: int, layer: DynamicLayer, tokens: int) -> None:
        """Copy a prompt's keys and values, `(1, heads, tokens, head size)`."""
        for whole, one in zip(self._whole, (layer.keys, layer.values), strict=True):
            whole[row, :, :tokens] = one[0]

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy a row's tokens over another row."""
        for whole in self._whole:
            whole[target, :, :tokens] = whole[source, :, :tokens]

    def scrub(self, row: int) -> None:
        """Overwrite a row."""
        for whole in self._whole:
            whole[row] = 0

    def extract(self, row: int, tokens: int) -> DynamicLayer:
        """Copy a row out."""
        layer = DynamicLayer()
        layer.update(*(whole[row : row + 1, :, :tokens].clone() for whole in self._whole))
        return layer

    def select(self, first: int, count: int, width: int) -> None:
        """Make `update` and the views it returns speak of these rows."""
        self._first, self._count, self._width = first, count, width

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing is left to do."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one token per row at its own place; return the rows up to the width."""
        end = self._first + self._count
        places = (self._rows[self._first : end], slice(None), self._lengths[self._first : end])
        for whole, one in zip(self._whole, (key_states, value_states), strict=True):
            whole[places] = one[:, :, 0]
        keys, values = (whole[self._first : end, :, : self._width] for whole in self._whole)
        return keys, values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the width of the rows and no offset."""
        return self._width, 0

    def get_seq_length(self) -> int:
        """Return the tokens before this step in the longest row, at most."""
        return self._width - 1

    def get_max_length(self) -> int:
        """Return no bound: admission holds it."""
        return -1


class _State(LinearAttentionLayer):  # type: ignore[misc]
    """Convolution and recurrent states of every row; constant size per row, updated in place."""

    def __init__(self, example: LinearAttentionLayer, rows: int) -> None:
        super().__init__(example.number_of_states)
        self._whole: dict[tuple[str, int], torch.Tensor] = {}
        for index, one in example.conv_states.items():
            if one is not None:  # channels side by side in memory, so that a step reads them in a row
                self._whole["conv", index] = one.new_zeros(rows, *one.shape[:0:-1]).transpose(1, 2)
        for index, one in example.recurrent_states.items():
            if one is not None:
                self._whole["recurrent", index] = one.new_zeros(rows, *one.shape[1:])
        for index in range(example.number_of_states):
            self.has_previous_state[index] = True
            self.is_conv_states_initialized[index] = ("conv", index) in self._whole
            self.is_recurrent_states_initialized[index] = ("recurrent", index) in self._whole
            self.conv_kernel_size[index] = example.conv_kernel_size[index]

    def insert(self, row: int, layer: LinearAttentionLayer) -> None:
        """Copy a prompt's states."""
        for (kind, index), whole in self._whole.items():
            whole[row] = (layer.conv_states if kind == "conv" else layer.recurrent_states)[index][0]

    def move(self, source: int, target: int) -> None:
        """Copy a row's states over another row."""
        for whole in self._whole.values():
            whole[target] = whole[source]

    def scrub(self, row: int) -> None:
        """Overwrite a row: a step that is wider than the rows computes with it, and writes what comes of it."""
        for whole in self._whole.values():
            whole[row] = 0

    def extract(self, row: int) -> LinearAttentionLayer:
        """Copy a row out."""
        layer = LinearAttentionLayer(self.number_of_states)
        for (kind, index), whole in self._whole.items():
            update = layer.update_conv_state if kind == "conv" else layer.update_recurrent_state
            update(whole[row : row + 1].clone(), index)
        return layer

    def select(self, first: int, count: int) -> None:
        """Show these rows to the model, as views."""
        for (kind, index), whole in self._whole.items():
            (self.conv_states if kind == "conv" else self.recurrent_states)[index] = whole[first : first + count]


class BatchedSlots:
    """Rows of one batch; every layer is attention over all tokens or a state of constant size.

    Args:
        example: A prompt's filled cache, for the layers' kinds and shapes.
        budget_bytes: Memory for all of it.
        context_tokens: Most tokens that a sequence can have.
        max_slots: Most rows.

    Attributes:
        num_slots: Rows that there are.
        max_tokens: Tokens that the longest possible sequence may have.
        lengths: `(num_slots,)` int64, the tokens that each row holds; the decoder keeps it.
        has_states: Some layers are recurrent.
        is_whole: All layers are cut alike.
    """

    def __init__(self, example: Cache, budget_bytes: int, context_tokens: int, max_slots: int) -> None:
        attention = [one for one in example.layers if isinstance(one, DynamicLayer)]
        states = [one for one in example.layers if isinstance(one, LinearAttentionLayer)]
        per_state = sum(_bytes(one) for one in states)
        tokens = example.get_seq_length() if attention else 1
        per_token = sum(_bytes(one) for one in attention) / tokens
        affordable = int(budget_bytes * STATE_SHARE / per_state) if per_state else max_slots
        self.num_slots = max(1, min(max_slots, affordable))
        room = budget_bytes - self.num_slots * per_state
        pool = int(room / per_token) if per_token else self.num_slots * context_tokens
        self._pool = max(WIDTH, min(pool, self.num_slots * _round_up(context_tokens)))
        self.max_tokens = min(context_tokens, self._pool)
        device = _tensors(example.layers[0])[0].device
        self.lengths = torch.zeros(self.num_slots, dtype=torch.int64, device=device)
        self._layers = [
            _State(one, self.num_slots)
            if isinstance(one, LinearAttentionLayer)
            else _Attention(one, self._pool, self.lengths)
            for one in example.layers
        ]
        self._cache = Cache(layers=list(self._layers))
        self.has_states = bool(states)
        self._capacity = 0
        self.is_whole = True
        self._needs: list[int] = []

    def fits(self, needs: Sequence[int]) -> bool:
        """Say whether sequences of so many tokens fit beside one another."""
        return len(needs) <= self.num_slots and self._capacity_for(needs) is not None

    def insert(self, row: int, cache: Cache, tokens: int, need: int) -> None:
        """Put a prompt's cache of `tokens` into the row behind the last; `fits` must have said yes."""
        needs = [*self._needs[:row], need]
        if not self.is_whole or need > self._capacity or len(needs) * self._capacity > self._pool:
            self._cut(needs, used=row)
        self._needs = needs
        for layer, one in zip(self._layers, cache.layers, strict=True):
            if isinstance(layer, _State):
                layer.insert(row, one)
            else:
                layer.insert(row, one, tokens)

    def move(self, source: int, target: int) -> None:
        """Copy a row over another."""
        for layer in self._layers:
            if isinstance(layer, _State):
                layer.move(source, target)
            else:
                layer.move(source, target, min(self._needs[source], self._capacity))
        self._needs[target] = self._needs[source]

    def pop(self) -> None:
        """Forget the last row."""
        self._needs.pop()

    def scrub(self, row: int) -> None:
        """Overwrite all that a row ever held: it may be NaN, which would reach whoever gets the place next."""
        for layer in self._layers:
            layer.scrub(row)

    def extract(self, row: int, tokens: int) -> Cache:
        """Copy a row out, as a prompt's cache of `tokens`."""
        return Cache(
            layers=[one.extract(row) if isinstance(one, _State) else one.extract(row, tokens) for one in self._layers]
        )

    def select(self, first: int, count: int, tokens: int) -> Cache:
        """Return rows as a cache to decode with, whose longest holds `tokens` before the step."""
        for layer in self._layers:
            if isinstance(layer, _State):
                layer.select(first, count)
            else:
                layer.select(first, count, self.width(tokens))
        return self._cache

    def width(self, tokens: int) -> int:
        """Return how many places of a row are read when the longest holds `tokens` before the step."""
        return min(_round_up(tokens + 1), self._capacity)

    @property
    def capacity(self) -> int:
        """Places of every row, used or not, until a sequence needs more."""
        return self._capacity

    @property
    def num_cut(self) -> int:
        """Rows of that capacity that there are, used or not."""
        return min(self.num_slots, self._pool // self._capacity) if self._capacity else 0

    @property
    def usage(self) -> float:
        """Share of the store in use, 0 to 1."""
        return len(self._needs) * max(self._capacity / self._pool, 1 / self.num_slots) if self._needs else 0.0

    def _cut(self, needs: Sequence[int], used: int) -> None:
        capacity = self._capacity_for(needs)
        if capacity is None:
            raise RuntimeError(f"sequences of {needs} tokens do not fit {self._pool}")
        self.is_whole = False
        for layer in self._layers:
            if isinstance(layer, _Attention):
                layer.cut(self._pool // capacity, capacity, used)
        self._capacity, self.is_whole = capacity, True

    def _capacity_for(self, needs: Sequence[int]) -> int | None:
        """Return a capacity that holds the longest in as many rows; a power of two if there is room for it."""
        tight = _round_up(max(needs, default=1))
        roomy = max(1 << (tight - 1).bit_length(), self._capacity)
        return next((one for one in (roomy, tight, max(needs)) if len(needs) * one <= self._pool), None)


class SeparateSlots:
    """One cache per row, for models whose layers cannot be one batch, such as those with sliding windows."""

    is_whole = True

    def __init__(self, context_tokens: int, max_slots: int, device: torch.device) -> None:
        self.num_slots = max_slots
        self.max_tokens = context_tokens
        self.lengths = torch.zeros(max_slots, dtype=torch.int64, device=device)
        self._caches: list[Cache] = []

    def fits(self, needs: Sequence[int]) -> bool:
        """Say whether there are rows enough."""
        return len(needs) <= self.num_slots

    def insert(self, row: int, cache: Cache, tokens: int, need: int) -> None:
        """Keep the prompt's own cache."""
        self._caches[row:] = [cache]

    def move(self, source: int, target: int) -> None:
        """Put a row's cache into another row."""
        self._caches[target] = self._caches[source]

    def pop(self) -> None:
        """Forget the last row."""
        self._caches.pop()

    def scrub(self, row: int) -> None:
        """Nothing is left of a row that is forgotten."""

    def extract(self, row: int, tokens: int) -> Cache:
        """Return the row's cache itself; the row is about to be forgotten."""
        return self._caches[row]

    def select(self, first: int, count: int, tokens: int) -> Cache:
        """Return the only row's cache."""
        return self._caches[first]

    @property
    def usage(self) -> float:
        """Share of the rows in use."""
        return len(self._caches) / self.num_slots


def _zeros(count: int, like: torch.Tensor) -> torch.Tensor:
    """Return zeros; on a CPU they take memory only where they are written, because numpy leaves that to the system.

    Zeros, because places that no token sees are multiplied by zero all the same, and what is left in memory may be NaN.
    """
    if like.device.type != "cpu":
        return like.new_zeros(count)
    return torch.from_numpy(np.zeros(count * like.element_size(), dtype=np.uint8)).view(like.dtype)


def can_batch(example: Cache) -> bool:
    """Say whether every layer of a cache is of a kind that rows of one batch can share."""
    return all(type(one) in (DynamicLayer, LinearAttentionLayer) for one in example.layers)


def cache_bytes(cache: Cache) -> int:
    """Return the memory of a prompt's cache."""
    return sum(_bytes(one) for one in cache.layers)


def new_cache(model: Any) -> DynamicCache:
    """Return an empty cache for one prompt."""
    return DynamicCache(config=model.config.get_text_config(decoder=True))


def _tensors(layer: Any) -> list[torch.Tensor]:
    held: list[Any] = [getattr(layer, "keys", None), getattr(layer, "values", None)]
    if isinstance(layer, LinearAttentionCacheLayerMixin):
        held += [*layer.conv_states.values(), *layer.recurrent_states.values()]
    return [one for one in held if isinstance(one, torch.Tensor)]


def _bytes(layer: Any) -> int:
    return sum(one.numel() * one.element_size() for one in _tensors(layer))


def _round_up(tokens: int) -> int:
    return math.ceil(tokens / WIDTH) * WIDTH
