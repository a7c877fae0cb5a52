"""What sampling rules do to the logits of a batch, and how a token is drawn from what is left.

Knows no sequence and keeps nothing. What a row gets depends on that row alone, bit for bit on the CPU, and nothing
waits for an accelerator. Shapes: R rows, V tokens of the vocabulary, K listed tokens; (R, 1) holds a rule per row.
Narrowing follows transformers 5 (`generation/logits_process.py`). Which of equally likely tokens at the edge of a
nucleus stay is up to the sort there; here it is the later ids, as after a stable one.
"""

from typing import NamedTuple

import torch

BLOCK = 512
"""Tokens whose weights are added up before any running sum, which is slow and in float64."""
ALL_MASS = 3.0
"""A `top_p` that keeps every token, whatever rounding does."""
FIRST_PARTS = 64
"""A token with less than this part of 1 - top_p is first assumed to be outside of the nucleus."""
SUM_ERROR = 1e-4
"""More than float32 probabilities of a large vocabulary miss 1 by."""
_GOLDEN = -0x61C8864680B583EB  # splitmix64's constants, as signed 64-bit numbers
_FIRST = -0x40A7B892E31B1A47
_SECOND = -0x6B2FB644ECCEEE15


class Listed(NamedTuple):
    """The likeliest tokens of every row, in descending order: `(R, K)` each."""

    values: torch.Tensor
    indices: torch.Tensor


def penalise_repetition(scores: torch.Tensor, is_seen: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
    """Return `(R, V)` scores in which seen tokens `(R, V)` are less likely; Keskar et al. 2019, arXiv:1909.05858."""
    penalised = torch.where(scores < 0, scores * penalty, scores / penalty)
    return torch.where(is_seen, penalised, scores)


def penalise_counts(
    scores: torch.Tensor, counts: torch.Tensor, presence: torch.Tensor, frequency: torch.Tensor
) -> torch.Tensor:
    """Return `(R, V)` scores less the penalties, as OpenAI has them, of tokens generated `counts` times."""
    return scores - frequency * counts - presence * (counts > 0)


def keep_top_k(scores: torch.Tensor, top_k: torch.Tensor, largest_k: int) -> tuple[torch.Tensor, Listed]:
    """Return the `(R, V)` scores with -inf for those below the row's k-th, and the `largest_k` likeliest.

    Args:
        scores: `(R, V)`.
        top_k: `(R, 1)`, each 1 to `largest_k`.
        largest_k: At most V.
    """
    values, indices = scores.topk(largest_k)
    return _filled(scores, scores < values.gather(1, top_k - 1), -torch.inf), Listed(values, indices)


def list_nucleus(scores: torch.Tensor, weights: torch.Tensor, top_p: torch.Tensor) -> Listed:
    """Return at least those tokens that can be in the nucleus."""
    vocabulary = scores.shape[1]
    num_parts = FIRST_PARTS if scores.is_cpu else vocabulary
    while num_parts < vocabulary:  # sorting all of V costs ten times as much, and on the CPU looking costs nothing
        spare = 1 - top_p - SUM_ERROR
        is_likely = weights >= (spare / num_parts).float()
        if not bool((_filled(weights, is_likely, 0).sum(1, keepdim=True) > spare).any()):
            return Listed(*scores.topk(max(1, int(is_likely.sum(1, dtype=torch.int32).max()))))
        num_parts *= 16
    return Listed(*scores.sort(dim=1, descending=True))


def keep_nucleus(weights: torch.Tensor, scores: torch.Tensor, listed: Listed, top_p: torch.Tensor) -> torch.Tensor:
    """Return the weights with 0 for all but the smallest set of likeliest tokens whose mass reaches top_p.

    Args:
        weights: `(R, V)` probabilities.
        scores: `(R, V)`, in the order of the weights but without their rounding.
        listed: The likeliest by score; what the nucleus has beyond them must be as likely as the last of them.
        top_p: `(R, 1)` float64.
    """
    mass = weights.gather(1, listed.indices).double()
    reached = mass.cumsum(1)
    is_kept = reached - mass < top_p
    last = listed.values.gather(1, is_kept.sum(1, keepdim=True).clamp(min=1) - 1)
    num_ties = (is_kept & (listed.values == last)).sum(1, keepdim=True)
    num_unlisted = ((top_p - reached[:, -1:]) / mass[:, -1:].clamp(min=1e-30)).ceil().clamp(min=0)
    is_tie = scores == last
    rank = is_tie.cumsum(1, dtype=torch.int32)
    num_early = (rank[:, -1:] - (num_ties + num_unlisted).clamp(min=1)).clamp(min=0).int()
    return _filled(weights, ~((scores > last) | (is_tie & (rank > num_early))), 0)


def keep_min_p(weights: torch.Tensor, min_p: torch.Tensor) -> torch.Tensor:
    """Return the `(R, V)` weights with 0 for those below that share of the row's largest."""
    return _filled(weights, weights < min_p * weights.amax(1, keepdim=True), 0)


def uniforms(keys: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Return a number in [0, 1) for every pair of key and step, the same everywhere.

    Args:
        keys: `(R,)` int64 of `key_of`.
        steps: `(R,)` int64.

    Returns:
        `(R,)` float64 with 53 random bits.

    Source: splitmix64; Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators".
    """
    mixed = _mix(keys + (steps + 1) * _GOLDEN)
    return _shifted(mixed, 11).double() * 2.0**-53


def key_of(seeds: torch.Tensor) -> torch.Tensor:
    """Spread seeds `(R,)` int64, so that the numbers of neighbouring seeds have nothing in common."""
    return _mix(_mix(seeds) + _GOLDEN)


def draw(weights: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Return the token at that share of the row's mass, in the order of ids; never one whose weight is 0.

    Args:
        weights: `(R, V)`, not negative; need not add up to 1.
        at: `(R,)` float64 in [0, 1).

    Returns:
        `(R,)` int64, below V also where a row has NaN or no mass.
    """
    num_rows, vocabulary = weights.shape
    num_whole = vocabulary // BLOCK
    whole, tail = weights[:, : num_whole * BLOCK], weights[:, num_whole * BLOCK :]
    sums = torch.cat([whole.view(num_rows, num_whole, BLOCK).sum(2), tail.sum(1, keepdim=True)], dim=1)
    block, inside = _locate(sums, at.unsqueeze(1))
    indices = block * BLOCK + torch.arange(BLOCK, device=weights.device)
    near = weights.gather(1, indices.clamp(max=vocabulary - 1)).masked_fill(indices >= vocabulary, 0)
    offset, _ = _locate(near, inside)
    return (block * BLOCK + offset).clamp(max=vocabulary - 1).squeeze(1)


def _filled(tensor: torch.Tensor, mask: torch.Tensor, value: float) -> torch.Tensor:
    return torch.where(mask, tensor.new_full((), value), tensor)  # a plain number takes three times as long on the CPU


def _locate(weights: torch.Tensor, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which of N weights lies at that share of their sum, and at which share of itself; `(R, 1)` each."""
    reached = weights.double().cumsum(1)
    total = reached[:, -1:]
    target = torch.minimum(at * total, torch.nextafter(total, torch.zeros_like(total)))  # rounding may reach the total
    index = torch.searchsorted(reached, target, right=True).clamp(max=weights.shape[1] - 1)
    here = weights.gather(1, index).double()
    return index, ((target - reached.gather(1, index) + here) / here).clamp(0, 1)


def _mix(bits: torch.Tensor) -> torch.Tensor:
    bits = (bits ^ _shifted(bits, 30)) * _FIRST
    bits = (bits ^ _shifted(bits, 27)) * _SECOND
    return bits ^ _shifted(bits, 31)


def _shifted(bits: torch.Tensor, by: int) -> torch.Tensor:
    return (bits >> by) & ((1 << (64 - by)) - 1)  # int64 shifts its sign in
