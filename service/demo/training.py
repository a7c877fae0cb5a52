"""Trains a demo model: first its eyes alone, then everything with the loss of the language model.

Knows batches and modules, but neither a layout nor a file: reading and writing checkpoints happens in `make`.
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from service.demo.batches import IGNORED_LABEL, Batch, Batches
from service.demo.drawing import COLORS, COUNTS, POSITIONS, SHAPES
from service.demo.layout import Layout

logger = logging.getLogger(__name__)

_PROPERTY_SIZES = (len(COLORS), len(SHAPES), len(COUNTS), len(POSITIONS))
_PROPERTY_WEIGHTS = (1.0, 2.0, 1.0, 1.0)  # shape is learned last
_PROPERTY_LOSS_SHARE = 0.3  # beside the language loss
_LOG_EVERY_STEPS = 50


class PropertyHeads(nn.Module):
    """Classifies colour, shape, count and position from picture features; used in training only."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(hidden_size, size) for size in _PROPERTY_SIZES)

    def loss(self, features: torch.Tensor, properties: torch.Tensor) -> torch.Tensor:
        """Returns the weighted cross entropy for features (N, tokens, hidden) and properties (N, 4)."""
        pooled = features.mean(dim=1)
        wanted = properties.unbind(dim=1)
        losses = [
            weight * functional.cross_entropy(head(pooled), target)
            for head, target, weight in zip(self.heads, wanted, _PROPERTY_WEIGHTS, strict=True)
        ]
        return torch.stack(losses).sum()


def language_loss(model: Any, batch: Batch, features: torch.Tensor) -> torch.Tensor:
    """Returns the mean cross entropy of the answers' tokens; right padding is harmless to causal layers."""
    embeddings = model.get_input_embeddings()(batch.input_ids)
    embeddings = embeddings.masked_scatter(batch.places.unsqueeze(-1), features.reshape(-1, features.shape[-1]))
    hidden = model.get_decoder()(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    answered = batch.labels != IGNORED_LABEL
    logits = model.get_output_embeddings()(hidden[answered])
    return functional.cross_entropy(logits, batch.labels[answered])


def train_vision(layout: Layout, model: Any, batches: Batches, heads: PropertyHeads, peak_rate: float) -> None:
    """Trains what lies between pixels and language on the properties of the scenes, without any language."""

    def loss_of(batch: Batch) -> torch.Tensor:
        return heads.loss(layout.picture_features(model, batch.pixel_values, batch.grid), batch.properties)

    modules = (*layout.seeing_modules(model), heads)
    optimize("vision", batches, loss_of, [one for module in modules for one in module.parameters()], peak_rate)


def train_all(
    layout: Layout, model: Any, batches: Batches, peak_rate: float, heads: PropertyHeads | None = None
) -> None:
    """Trains every parameter that asks for a gradient on the answers.

    Args:
        layout: Of the model.
        model: The model, or the base inside a PEFT model; changed in place.
        batches: The conversations, one optimiser step each.
        peak_rate: Highest learning rate of the one-cycle schedule.
        heads: Where given, their loss is added with a small weight, which keeps the features sharp.
    """

    def loss_of(batch: Batch) -> torch.Tensor:
        features = layout.picture_features(model, batch.pixel_values, batch.grid)
        loss = language_loss(model, batch, features)
        return loss if heads is None else loss + _PROPERTY_LOSS_SHARE * heads.loss(features, batch.properties)

    parameters = [*model.parameters(), *(heads.parameters() if heads else ())]
    optimize(batches.style, batches, loss_of, parameters, peak_rate)


def optimize(
    label: str,
    batches: Batches,
    loss_of: Callable[[Batch], torch.Tensor],
    parameters: Iterable[nn.Parameter],
    peak_rate: float,
) -> None:
    """Runs AdamW with a one-cycle schedule, one step a batch; a worker process draws ahead."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=peak_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_rate, total_steps=len(batches), pct_start=0.1)
    loader: DataLoader[Batch] = DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=8)
    started, losses = time.monotonic(), list[float]()
    for step, batch in enumerate(loader, start=1):
        loss = loss_of(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % _LOG_EVERY_STEPS == 0 or step == len(batches):
            mean, seconds = sum(losses) / len(losses), time.monotonic() - started
            logger.info("%s: step %d/%d, loss %.4f, %.0f s", label, step, len(batches), mean, seconds)
            losses.clear()
