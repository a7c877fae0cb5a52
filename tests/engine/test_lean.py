"""Each lean module computes what the module computes that it stands for."""

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info
from torch import nn
from transformers import Qwen3_5TextConfig
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5RMSNorm, Qwen3_5TextModel

from service.engine.adapters import share
from service.engine.lean import kernels, make_lean, make_prompts_lean, pack, speed_up
from service.engine.lean.delta_net import LeanDeltaNet
from service.engine.lean.linear import MANY, PART, VERY_MANY, PackedLinear, PanelLinear, WideLinear, can_gain
from service.engine.lean.rows import LeanMLP, LeanNorm
from service.engine.slots import BatchedSlots, new_cache

ROWS, PROMPT, STEPS = 3, 5, 6
NEAR = 2e-2
"""Largest difference that rounding to bfloat16 makes, as a share of the largest value."""
needs_kernels = pytest.mark.skipif(not kernels.are_there(), reason="no C compiler, or no AVX-512")


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


def expect_near(found: torch.Tensor, expected: torch.Tensor, share: float = NEAR) -> None:
    """Compare with the largest value: what untrained layers put out is smaller than usual tolerances."""
    atol = share * expected.abs().max().item()
    torch.testing.assert_close(found.float(), expected.float(), rtol=0, atol=atol)


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
@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 2e-5), (torch.bfloat16, NEAR)])
@torch.no_grad()
def test_the_lean_delta_net_steps_like_transformers_own_and_leaves_the_same_states(
    dtype: torch.dtype, share: float, key_heads: int
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
        expect_near(lean(x, cache_params=together), torch.cat(expected), share)
    for row, cache in enumerate(caches):
        for kept, alone in (
            (together.get_conv_state(0)[row], cache.get_conv_state(0)[0]),
            (together.get_recurrent_state(0)[row], cache.get_recurrent_state(0)[0]),
        ):
            expect_near(kept, alone, share)


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
@torch.no_grad()
def test_a_wide_linear_layer_multiplies_like_the_layer(rows: int, bias: bool) -> None:
    inner = nn.Linear(96, 130, bias=bias, dtype=torch.bfloat16)
    x = torch.randn(1, rows, 96, dtype=torch.bfloat16)
    torch.testing.assert_close(WideLinear.like(inner)(x), inner(x), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_a_large_weight_is_multiplied_part_by_part(bias: bool) -> None:
    inner = nn.Linear(2**10 + 7, 2 * PART // 2**10 + 5, bias=bias, dtype=torch.bfloat16)
    x = torch.randn(2, MANY // 2, inner.in_features, dtype=torch.bfloat16)
    torch.testing.assert_close(WideLinear.like(inner)(x), inner(x), rtol=1e-2, atol=1e-2)


@needs_kernels
@pytest.mark.parametrize("rows", [1, 2, 13, 14, 15, 29, 100, VERY_MANY])
@pytest.mark.parametrize(("num_in", "num_out"), [(96, 130), (7, 31), (64, 16), (300, 1000), (1, 1)])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_panels_multiply_exactly_but_for_rounding(rows: int, num_in: int, num_out: int, bias: bool) -> None:
    inner = nn.Linear(num_in, num_out, bias=bias, dtype=torch.bfloat16)
    x = torch.randn(rows, num_in, dtype=torch.bfloat16)
    wide_bias = inner.bias.double() if bias else None
    exact = nn.functional.linear(x.double(), inner.weight.double(), wide_bias)
    torch.testing.assert_close(PanelLinear.like(inner)(x).double(), exact, rtol=2**-8, atol=1e-5)


@needs_kernels
@torch.no_grad()
def test_a_row_does_not_depend_on_its_neighbours() -> None:
    layer = PanelLinear.like(nn.Linear(96, 130, dtype=torch.bfloat16))
    x = torch.randn(40, 96, dtype=torch.bfloat16)
    together = layer(x)
    for count in (1, 3, 14, 17):
        assert torch.equal(layer(x[:count]), together[:count])


@needs_kernels
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@torch.no_grad()
def test_what_is_not_finite_stays_so_and_spreads_to_its_row_only(value: float) -> None:
    layer = PanelLinear.like(nn.Linear(96, 130, dtype=torch.bfloat16))
    x = torch.randn(20, 96, dtype=torch.bfloat16)
    x[3, 5] = value
    is_finite = layer(x).isfinite()
    assert not is_finite[3].any()
    assert is_finite[[0, 1, 2, *range(4, 20)]].all()
    norm = LeanNorm(Qwen3_5RMSNorm(96).bfloat16())
    assert not norm(x)[3].isfinite().all()
    assert not kernels.gated(x, x)[3].isfinite().all()


@needs_kernels
@torch.no_grad()
def test_a_weight_that_is_exchanged_or_changed_in_place_is_laid_out_anew() -> None:
    layer = PanelLinear.like(nn.Linear(96, 130, dtype=torch.bfloat16))
    x = torch.randn(2, 96, dtype=torch.bfloat16)
    saved = copy.deepcopy(layer)  # as PEFT does for modules_to_save
    saved.weight.mul_(2)
    saved.bias = nn.Parameter(torch.ones(130, dtype=torch.bfloat16))
    expected = nn.functional.linear(x, saved.weight, saved.bias)
    torch.testing.assert_close(saved(x), expected, rtol=1e-2, atol=1e-2)
    assert not torch.equal(saved(x), layer(x))


@needs_kernels
@pytest.mark.parametrize("make", [lambda: Qwen3_5RMSNorm(72), lambda: Qwen3RMSNorm(72), lambda: LlamaRMSNorm(64)])
@torch.no_grad()
def test_a_lean_norm_norms_like_the_module(make: Callable[[], nn.Module]) -> None:
    inner = make().bfloat16()
    inner.weight.add_(torch.randn_like(inner.weight) / 4)
    x = 3 * torch.randn(5, 2, len(inner.weight), dtype=torch.bfloat16)
    torch.testing.assert_close(LeanNorm(inner)(x), inner(x), rtol=2e-2, atol=1e-3)


@needs_kernels
@torch.no_grad()
def test_a_lean_mlp_computes_what_the_module_does() -> None:
    inner = text_model(torch.bfloat16, 2).layers[0].mlp
    x = torch.randn(3, 7, 64, dtype=torch.bfloat16)
    expect_near(LeanMLP(inner)(x), inner(x))


@needs_kernels
@pytest.mark.parametrize("tokens", [1, 2, 5, 70])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
@torch.no_grad()
def test_prompts_in_any_pieces_leave_the_states_and_outputs_that_transformers_own_would(
    tokens: int, key_heads: int
) -> None:
    model = text_model(torch.bfloat16, key_heads)
    inner = model.layers[0].linear_attn
    exact = copy.deepcopy(inner).float()
    lean, cache, expected_cache = LeanDeltaNet(inner), new_cache(model), new_cache(model)
    for length in (tokens, 3, 1, 9):
        x = torch.randn(1, length, 64, dtype=torch.bfloat16)
        expected = exact(x.float(), cache_params=expected_cache)
        expect_near(lean(x, cache_params=cache), expected)
    expect_near(cache.get_recurrent_state(0), expected_cache.get_recurrent_state(0))
    expect_near(cache.get_conv_state(0), expected_cache.get_conv_state(0))


@needs_kernels
@torch.no_grad()
def test_several_rows_go_through_the_states_together_as_through_transformers_own() -> None:
    model = text_model(torch.bfloat16, 2)
    inner = model.layers[0].linear_attn
    exact = copy.deepcopy(inner).float()
    lean, cache, expected_cache = LeanDeltaNet(inner), new_cache(model), new_cache(model)
    for length in (1, 2, 70, 1):
        x = torch.randn(3, length, 64, dtype=torch.bfloat16)
        expect_near(lean(x, cache_params=cache), exact(x.float(), cache_params=expected_cache))
    expect_near(cache.get_recurrent_state(0), expected_cache.get_recurrent_state(0))
    assert lean(x[:, :0], cache_params=new_cache(model)).shape == (3, 0, 64)


@needs_kernels
@torch.no_grad()
def test_what_does_not_fit_a_matrix_is_refused_before_a_kernel_reads_beside_it() -> None:
    layer = PanelLinear.like(nn.Linear(96, 130, dtype=torch.bfloat16))
    for width in (48, 192):
        with pytest.raises(ValueError, match=f"rows of {width} values"):
            layer(torch.randn(2, width, dtype=torch.bfloat16))
    layer.weight = nn.Parameter(torch.randn(200, 96, dtype=torch.bfloat16))
    layer.bias = None
    assert layer(torch.randn(2, 96, dtype=torch.bfloat16)).shape == (2, 200)
    with pytest.raises(RuntimeError):
        layer.float()(torch.randn(2, 96, dtype=torch.bfloat16))
    signals = [torch.zeros(1, one, 4, dtype=torch.bfloat16) for one in (2, 2, 1)]
    with pytest.raises(ValueError, match="signals"):
        kernels.delta_net(torch.zeros(1, 2, 64), tuple(signals), (signals[0],) * 3, signals[0], 1, 1e-6)


@pytest.mark.parametrize(("free", "has_panels"), [(1 << 40, True), (0, False)])
def test_speeding_up_changes_modules_but_no_tensor_and_no_name(free: int, has_panels: bool) -> None:
    tree = Tree(torch.bfloat16)
    before = {name: one.data_ptr() for name, one in tree.named_parameters()}
    names = list(tree.state_dict())
    speed_up(tree, free)
    assert {name: one.data_ptr() for name, one in tree.named_parameters()} == before
    assert list(tree.state_dict()) == names
    layer = tree.model.layers[0].mlp.up_proj
    if has_panels and kernels.are_there():
        assert type(layer) is PanelLinear
        assert share(tree).model.layers[0].mlp.up_proj.panels is layer.panels  # views of it keep no more
    else:
        assert type(layer) is WideLinear
    exact = Tree(torch.float32)
    speed_up(exact, free)
    assert not any(isinstance(one, WideLinear) for one in exact.modules())


def test_float32_is_not_packed_so_that_tokens_stay_those_of_generate() -> None:
    assert not can_gain(nn.Linear(4, 4))


@pytest.mark.parametrize(("free", "is_packed"), [(1 << 40, True), (0, False)])
def test_a_tree_is_packed_only_if_memory_is_ample(free: int, is_packed: bool) -> None:
    tree = Tree(torch.bfloat16)
    pack(tree, free)
    assert any(isinstance(one, PackedLinear) for one in tree.modules()) is is_packed
    assert isinstance(tree.head, PackedLinear) is is_packed


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_float32_keeps_the_modules_that_round_as_generate_does(dtype: torch.dtype) -> None:
    tree = Tree(dtype)
    make_lean(tree)
    kinds = {type(one) for one in tree.modules()}
    assert LeanDeltaNet in kinds
    assert (LeanNorm in kinds) is (LeanMLP in kinds) is (dtype is torch.bfloat16 and kernels.are_there())


@needs_kernels
def test_prompts_are_made_lean_once() -> None:
    tree = Tree(torch.bfloat16)
    make_prompts_lean(tree)
    names = [name for name, _ in tree.named_modules()]
    make_prompts_lean(tree)
    assert [name for name, _ in tree.named_modules()] == names
    exact = Tree(torch.float32)
    make_prompts_lean(exact)
    assert {type(one) for one in exact.modules()}.isdisjoint({LeanNorm, LeanMLP, LeanDeltaNet})


def test_there_is_one_pool_of_threads() -> None:
    """Two would take the cores from one another."""
    kernels.are_there()
    assert len([one for one in threadpool_info() if one["user_api"] == "openmp"]) == 1


def test_without_a_compiler_there_are_no_kernels_and_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setenv("PATH", "")
    assert kernels._library.__wrapped__() is None
    assert "no C compiler" in caplog.text


def test_a_compiler_that_fails_is_named_with_what_it_says(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho immintrin.h: no such file >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert kernels._library.__wrapped__() is None
    assert "immintrin.h: no such file" in caplog.text


@pytest.mark.parametrize("said", [b"\\377", b""])
def test_no_way_of_failing_to_compile_keeps_a_model_from_loading(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, said: bytes
) -> None:
    """Nothing can be written, or what the compiler says is no text."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    compiler = tmp_path / "cc"
    compiler.write_text(f"#!/bin/sh\nprintf '{said.decode()}' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    if not said:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    assert kernels._library.__wrapped__() is None
    assert "cannot compile the kernels" in caplog.text
