"""What is computed once and used again: features of pictures, and states at the beginnings of prompts.

Both live in bounded memory and go by least recent use. Knows no queue; the thread that owns the device calls it.
"""

import copy
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from cachetools import LRUCache
from transformers import Cache

from service.engine.families.pictures import feature_bytes
from service.engine.prompt import BLOCK, Beginnings
from service.engine.slots import cache_bytes

SEEN_BLOCKS = 65536
"""Blocks of recent prompts whose names are kept, to notice what is shared: four million tokens."""


class FeatureMemory:
    """Features of picture parts, by content, processing and vision tower.

    Attributes:
        hits: Parts that needed no vision tower.
        misses: Parts that did.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._features: LRUCache[tuple[int, bytes], Any] = LRUCache(budget_bytes, getsizeof=feature_bytes)
        self.hits = 0
        self.misses = 0

    def get(self, tower: int, digest: bytes) -> Any | None:
        """Return a part's features, or None."""
        return self._features.get((tower, digest))

    def put(self, tower: int, digest: bytes, features: Any) -> None:
        """Keep a part's features, if there is room for them at all."""
        if feature_bytes(features) <= self._features.maxsize:
            self._features[tower, digest] = features

    def forget(self) -> None:
        """Give all memory back."""
        self._features.clear()


class StateMemory:
    """Caches at the beginnings of prompts.

    A beginning is kept once it is shared: when a prompt begins like a recent one, its computation is split where they
    part, and the state there is kept. The end of every answer is kept too, for the next turn.

    Attributes:
        hit_tokens: Tokens of prompts that needed no computation.
        missed_tokens: Tokens that did.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._states = _Counted(budget_bytes)
        self._seen: LRUCache[bytes, bool] = LRUCache(SEEN_BLOCKS)
        self.hit_tokens = 0
        self.missed_tokens = 0

    def find(self, names: Beginnings) -> tuple[int, Cache | None]:
        """Return the longest kept beginning that leaves something to compute, as a copy, with its length."""
        for tokens in sorted(self._states.lengths, reverse=True):
            if tokens < len(names) and (state := self._states.get((tokens, names.name(tokens)))) is not None:
                found = self._if_possible(partial(copy.deepcopy, state))
                return (tokens, found) if found is not None else (0, None)
        return 0, None

    def shared(self, names: Beginnings) -> int:
        """Return how many tokens a prompt shares with recent ones, in whole blocks, and remember the prompt."""
        blocks = (len(names) - 1) // BLOCK
        chain = [names.name((one + 1) * BLOCK) for one in range(blocks)]
        shared = next((index for index, name in enumerate(chain) if name not in self._seen), blocks)
        for name in chain:
            self._seen[name] = True
        return shared * BLOCK

    def keep(self, names: Beginnings, tokens: int, make: Callable[[], Cache]) -> None:
        """Keep a state, if there is memory for it.

        Args:
            names: Of the prompt.
            tokens: Where the state is.
            make: Copies it.
        """
        state = self._if_possible(make)
        if state is not None and cache_bytes(state) <= self._states.maxsize:
            self._states[tokens, names.name(tokens)] = state

    def _if_possible(self, make: Callable[[], Cache]) -> Cache | None:
        """Make a state; where the device has no memory for it, give back all that is kept instead."""
        try:
            return make()
        except torch.OutOfMemoryError:
            self.forget()
            return None

    def has(self, names: Beginnings, tokens: int) -> bool:
        """Say whether a beginning is kept."""
        return (tokens, names.name(tokens)) in self._states

    def forget(self) -> None:
        """Give all memory back."""
        self._states.clear()
        self._states.lengths.clear()  # `clear` calls no `__delitem__`

    @property
    def used_bytes(self) -> float:
        """Memory in use."""
        return self._states.currsize


class _Counted(LRUCache[tuple[int, bytes], Cache]):
    """States by length and name, with a count of each length."""

    def __init__(self, budget_bytes: int) -> None:
        self.lengths: Counter[int] = Counter()
        super().__init__(budget_bytes, getsizeof=cache_bytes)

    def __setitem__(self, key: tuple[int, bytes], value: Cache, **more: Any) -> None:
        is_new = key not in self
        super().__setitem__(key, value, **more)
        self.lengths[key[0]] += is_new

    def __delitem__(self, key: tuple[int, bytes], **more: Any) -> None:
        super().__delitem__(key, **more)
        self.lengths[key[0]] -= 1
        if not self.lengths[key[0]]:
            del self.lengths[key[0]]
