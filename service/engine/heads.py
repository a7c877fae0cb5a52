"""Lets the head of a model see its last tokens only: logits of whole prompts can take gigabytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def last_logits(model: Any, count: int) -> Iterator[None]:
    """Compute the logits of the last tokens of each row; of all, if the model has no head of its own.

    Args:
        model: A transformers model, or one with an adapter mounted.
        count: How many tokens; 0 for none.
    """

    def cut(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden, *rest = arguments
        return hidden[:, hidden.shape[1] - count :], *rest

    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(cut) if head is not None else None
    try:
        yield
    finally:
        if hook is not None:
            hook.remove()
