"""Knows which matrices of a layer read which norm, and which matrix reads those.

Source: modeling_qwen3_5.py, modeling_qwen3.py, modeling_qwen2.py, modeling_llama.py, modeling_gemma3.py and
modeling_siglip.py of transformers 5.23.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from service.domain.norms import adds_one, is_of_language


@dataclass(frozen=True, slots=True)
class Kind:
    """A part of a layer.

    Attributes:
        norm: What it begins with.
        readers: Matrices that read the norm.
        linear: Of these the one whose rows reach the last matrix multiplied, not bent; empty if there is none.
        last: The matrix whose columns read the readers' rows.
        is_forward: It is a feed-forward layer, whose neurons may stand in any order.
        unless: A norm that the same matrices read instead, where a layer has it.
    """

    norm: str
    readers: tuple[str, ...]
    linear: str
    last: str
    is_forward: bool
    unless: str = ""


ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
FORWARD = ("mlp.gate_proj", "mlp.up_proj")
BEFORE_FORWARD = "pre_feedforward_layernorm"
"""Gemma 2 and later have it; there `post_attention_layernorm` is of what attention adds, and no matrix reads it."""
LINEAR = tuple(f"linear_attn.in_proj_{one}" for one in ("qkv", "z", "a", "b", "qkvz", "ba"))
KINDS = (
    Kind("input_layernorm", (*ATTENTION, *LINEAR), "self_attn.v_proj", "self_attn.o_proj", is_forward=False),
    Kind("post_attention_layernorm", FORWARD, "mlp.up_proj", "mlp.down_proj", is_forward=True, unless=BEFORE_FORWARD),
    Kind(BEFORE_FORWARD, FORWARD, "mlp.up_proj", "mlp.down_proj", is_forward=True),
    Kind("layer_norm1", ATTENTION, "self_attn.v_proj", "self_attn.out_proj", is_forward=False),
    Kind("layer_norm2", ("mlp.fc1",), "", "mlp.fc2", is_forward=True),
)


@dataclass(frozen=True, slots=True)
class Block:
    """One such part of one layer, by the origin's names; what it lacks is empty.

    Attributes:
        norm: As for `Kind`.
        readers: As for `Kind`.
        linear: As for `Kind`.
        last: As for `Kind`.
        is_forward: As for `Kind`.
        adds_one: The norm multiplies by one more than its weight.
        head_size: Channels that the linear matrix has for a head, of which several of the last one's may read each; 0
            if it is not known.
    """

    norm: str
    readers: tuple[str, ...]
    linear: str
    last: str
    is_forward: bool
    adds_one: bool
    head_size: int

    @property
    def matrices(self) -> tuple[str, ...]:
        """All that it has."""
        return (*self.readers, *((self.last,) if self.last else ()))


def blocks(names: Collection[str], config: Mapping[str, Any]) -> Iterator[Block]:
    """List the parts whose norm is there.

    Args:
        names: Of tensors.
        config: The content of config.json.
    """
    text = config.get("text_config")
    text = text if isinstance(text, dict) else config
    for norm in names:
        for kind in KINDS:
            if not norm.endswith(f".{kind.norm}.weight"):
                continue
            layer = norm.removesuffix(f"{kind.norm}.weight")
            if kind.unless and f"{layer}{kind.unless}.weight" in names:
                continue
            own = {one: f"{layer}{one}.weight" for one in (*kind.readers, kind.last)}
            own = {one: name for one, name in own.items() if name in names}
            readers = tuple(own[one] for one in kind.readers if one in own)
            linear, last = own.get(kind.linear, ""), own.get(kind.last, "")
            size = _head_size(text) if is_of_language(norm) and not kind.is_forward else 0
            yield Block(norm, readers, linear, last, kind.is_forward, adds_one(norm, config), size)


def _head_size(config: Mapping[str, Any]) -> int:
    size, hidden, heads = (config.get(one) for one in ("head_dim", "hidden_size", "num_attention_heads"))
    if isinstance(size, int) and size > 0:
        return size
    is_known = isinstance(hidden, int) and isinstance(heads, int) and heads > 0
    return hidden // heads if is_known else 0  # type: ignore[operator]
