"""Each lean module computes what the module computes that it stands for."""

import pytest
import torch
from torch import nn
from transformers import Qwen3_5TextConfig
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet, Qwen3_5TextModel

from service.engine.adapters import share
from service.engine.lean import make_lean, speed_up
from service.engine.lean.delta_net import LeanDeltaNet
from service.engine.lean.linear import MANY, PackedLinear, WideLinear, can_gain
from service.engine.slots import BatchedSlots, new_cache

ROWS, PROMPT, STEPS = 3, 5, 6


def text_model(dtype: torch.dtype, key_heads: int) -> Qwen3_5TextModel:
    torch.manual_seed(1)
    config = Qwen3_5TextConfig(
        vocab_size=50,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        linear_key_head_dim=16,
        linear_value_head_dim=32,
        linear_num_key_heads=key_heads,
        linear_num_value_heads=4,
        layer_types=["linear_attention", "full_attention"],
    )
    return Qwen3_5TextModel(config).eval().to(dtype)


class Tree(nn.Module):
    """A model as transformers makes it, as far as lean modules care."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = text_model(dtype, 2)
        self.head = nn.Linear(64, 50, dtype=dtype)

    def get_decoder(self) -> nn.Module:
        return self.model

    def get_output_embeddings(self) -> nn.Module:
        return self.head


@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
@torch.no_grad()
def test_the_lean_delta_net_steps_like_transformers_own_and_leaves_the_same_states(
    dtype: torch.dtype, tolerance: float, key_heads: int
) -> None:
    model = text_model(dtype, key_heads)
    inner = model.layers[0].linear_attn
    prompts = [torch.randn(1, PROMPT, 64, dtype=dtype) for _ in range(ROWS)]
    caches = [new_cache(model) for _ in range(ROWS)]
    for prompt, cache in zip(prompts, caches, strict=True):
        model(inputs_embeds=prompt, past_key_values=cache, use_cache=True)
    slots = BatchedSlots(caches[0], 1_000_000, 64, ROWS)
    for row, cache in enumerate(caches):
        slots.insert(row, cache, PROMPT, 32)
    lean, together = LeanDeltaNet(inner), slots.select(0, ROWS, PROMPT)
    for _ in range(STEPS):
        x = torch.randn(ROWS, 1, 64, dtype=dtype)
        expected = [inner(x[row : row + 1], cache_params=cache) for row, cache in enumerate(caches)]
        torch.testing.assert_close(lean(x, cache_params=together), torch.cat(expected), rtol=0, atol=tolerance)
    for row, cache in enumerate(caches):
        for kept, alone in (
            (together.get_conv_state(0)[row], cache.get_conv_state(0)[0]),
            (together.get_recurrent_state(0)[row], cache.get_recurrent_state(0)[0]),
        ):
            torch.testing.assert_close(kept, alone, rtol=0, atol=tolerance)


@torch.no_grad()
def test_prompts_go_through_the_module_itself() -> None:
    model = text_model(torch.float32, 2)
    inner = model.layers[0].linear_attn
    x = torch.randn(2, PROMPT, 64)
    assert torch.equal(LeanDeltaNet(inner)(x), inner(x))


@pytest.mark.parametrize("rows", [1, 3, 8, 40])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_a_packed_linear_layer_multiplies_like_the_layer(rows: int, bias: bool) -> None:
    inner = nn.Linear(96, 130, bias=bias, dtype=torch.bfloat16)
    assert can_gain(inner)
    x = torch.randn(rows, 1, 96, dtype=torch.bfloat16)
    torch.testing.assert_close(PackedLinear(inner)(x), inner(x), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("rows", [1, MANY - 1, MANY, 300])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("is_kept", [True, False])
@torch.no_grad()
def test_a_wide_linear_layer_multiplies_like_the_layer(rows: int, bias: bool, is_kept: bool) -> None:
    inner = nn.Linear(96, 130, bias=bias, dtype=torch.bfloat16)
    x = torch.randn(1, rows, 96, dtype=torch.bfloat16)
    torch.testing.assert_close(WideLinear.like(inner, is_kept=is_kept)(x), inner(x), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("free", "is_kept"), [(1 << 40, True), (0, False)])
def test_widening_changes_modules_but_no_tensor_and_no_name(free: int, is_kept: bool) -> None:
    tree = Tree(torch.bfloat16)
    before = {name: one.data_ptr() for name, one in tree.named_parameters()}
    speed_up(tree, free)
    assert {name: one.data_ptr() for name, one in tree.named_parameters()} == before
    wide = tree.model.layers[0].mlp.up_proj
    assert type(wide) is WideLinear
    assert (wide.wide is not None) is is_kept
    assert share(tree).model.layers[0].mlp.up_proj.wide is wide.wide  # views of it keep no more
    assert "model.layers.0.mlp.up_proj.wide" not in tree.state_dict()
    exact = Tree(torch.float32)
    speed_up(exact, free)
    assert not any(isinstance(one, WideLinear) for one in exact.modules())


def test_float32_is_not_packed_so_that_tokens_stay_those_of_generate() -> None:
    assert not can_gain(nn.Linear(4, 4))


@pytest.mark.parametrize(("free", "is_packed"), [(1 << 40, True), (0, False)])
def test_a_tree_is_packed_only_if_memory_is_ample(free: int, is_packed: bool) -> None:
    tree = Tree(torch.bfloat16)
    make_lean(tree, free)
    kinds = {type(one) for one in tree.modules()}
    assert LeanDeltaNet in kinds
    assert (PackedLinear in kinds) is is_packed
    assert isinstance(tree.head, PackedLinear) is is_packed
    assert Qwen3_5GatedDeltaNet in kinds  # inside
