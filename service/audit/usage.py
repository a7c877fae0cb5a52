"""Which tokens are in use, and which of their rows nobody trained.

Pure arithmetic on facts; what follows from it is decided in `checks/tokens.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from service.domain.facts import AdapterFacts, BaseFacts, IdClaim, MatrixFacts, RowUpdate

REPLACED_ROLES = ("image_token", "video_token", "audio_token")
"""Placeholders whose rows are overwritten by features before the model reads them."""


@dataclass(frozen=True, slots=True)
class UntrainedToken:
    """A token that an adapter's tokenizer adds, with the state of its rows."""

    text: str
    token_id: int
    is_input_trained: bool
    is_output_trained: bool
    norm_percentile: float | None

    def evidence(self) -> dict[str, Any]:
        """Return the facts as JSON."""
        return {
            "token": self.text,
            "id": self.token_id,
            "input_row_trained": self.is_input_trained,
            "output_row_trained": self.is_output_trained,
            "base_row_norm_percentile": self.norm_percentile,
        }


def replaced_tokens(claims: Iterable[IdClaim]) -> set[int]:
    """Return the ids that picture features replace, and whose rows therefore do not matter."""
    return {one for claim in claims if claim.role in REPLACED_ROLES for one in claim.token_ids}


def untrained_tokens(base: BaseFacts, adapter: AdapterFacts) -> list[UntrainedToken]:
    """Find the adapter's new tokens with an input or output row that nobody trained.

    A row of a token that the base's tokenizer lacks was never trained by the base. The adapter trained it only if
    it ships the row and the row differs from the base's.
    """
    head = base.head or base.embedding
    head_update = adapter.head_update or (adapter.embedding_update if base.head is None else None)
    found = []
    for text, token_id in sorted(adapter.new_tokens.items(), key=lambda item: item[1]):
        is_input_trained = _is_trained(token_id, base.embedding, adapter.embedding_update)
        is_output_trained = _is_trained(token_id, head, head_update)
        if not (is_input_trained and is_output_trained):
            row = base.embedding.rows.get(token_id) if base.embedding else None
            percentile = round(row.norm_percentile, 1) if row else None
            found.append(UntrainedToken(text, token_id, is_input_trained, is_output_trained, percentile))
    return found


def _is_trained(token_id: int, matrix: MatrixFacts | None, update: RowUpdate | None) -> bool:
    if update is None:
        return False
    if update.kind == "lora":
        return True  # a low-rank change reaches every row; how well, the probes tell
    digest = update.digests.get(token_id)
    before = matrix.rows.get(token_id) if matrix else None
    return digest is not None and (before is None or before.digest != digest)
