"""Weights of 8 bits: how they are rounded, the kernel, and the layers."""

import copy

import pytest
import torch
from torch import nn

from service.engine.lean import in_full, kernels
from service.engine.lean.eight_bit import LARGEST, EightBitLinear, quantised
from service.engine.lean.linear import PART, PanelLinear

BFLOAT16 = torch.bfloat16
needs_kernels = pytest.mark.skipif(not kernels.are_there(), reason="no C compiler, or no AVX-512")


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """Return in float64 what 8 bits make of a matrix."""
    values, scale = quantised(weight)
    return values.double() * scale.double()[:, None]


@pytest.mark.parametrize("spread", [1.0, 1e-30, 1e30])
def test_every_weight_is_rounded_to_within_half_a_step(spread: float) -> None:
    weight = (torch.randn(70, 33) * spread).to(BFLOAT16)
    values, scale = quantised(weight)
    assert int(values.abs().max()) == LARGEST
    assert (values.abs().amax(1) == LARGEST).all()
    difference = (rounded(weight) - weight.double()).abs()
    assert (difference <= (0.5 + 1e-5) * scale.double()[:, None]).all()


def test_an_output_without_weights_stays_so_and_what_is_not_finite_does_too() -> None:
    weight = torch.ones(3, 4, dtype=BFLOAT16)
    weight[0], weight[1, 2], weight[2, 1] = 0, float("inf"), float("nan")
    values, scale = quantised(weight)
    assert scale[0] == 0
    assert not values[0].any()
    assert not scale[1:].isfinite().any()


@needs_kernels
@pytest.mark.parametrize("rows", [1, 2, 13, 14, 15, 29, 100])
@pytest.mark.parametrize(("num_in", "num_out"), [(96, 130), (7, 31), (64, 16), (300, 1000), (1, 1)])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_the_rounded_weights_are_multiplied_exactly_but_for_rounding_the_sum(
    rows: int, num_in: int, num_out: int, bias: bool
) -> None:
    inner = nn.Linear(num_in, num_out, bias=bias, dtype=BFLOAT16)
    x = torch.randn(rows, num_in, dtype=BFLOAT16)
    exact = nn.functional.linear(x.double(), rounded(inner.weight), inner.bias.double() if bias else None)
    torch.testing.assert_close(EightBitLinear.like(inner)(x).double(), exact, rtol=2**-8, atol=1e-5)


@needs_kernels
@torch.no_grad()
def test_a_row_does_not_depend_on_its_neighbours() -> None:
    layer = EightBitLinear.like(nn.Linear(96, 130, dtype=BFLOAT16))
    x = torch.randn(600, 96, dtype=BFLOAT16)
    together = layer(x)
    for count in (1, 3, 14, 17, 80, 512):
        assert torch.equal(layer(x[:count]), together[:count])


@needs_kernels
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@torch.no_grad()
def test_what_is_not_finite_spreads_to_its_row_or_its_output_only(value: float) -> None:
    inner = nn.Linear(96, 130, dtype=BFLOAT16)
    x = torch.randn(20, 96, dtype=BFLOAT16)
    x[3, 5] = value
    is_finite = EightBitLinear.like(inner)(x).isfinite()
    assert not is_finite[3].any()
    assert is_finite[[0, 1, 2, *range(4, 20)]].all()
    inner.weight[7, 5] = value
    is_finite = EightBitLinear.like(inner)(x[:3]).isfinite()
    assert not is_finite[:, 7].any()
    assert is_finite[:, [*range(7), *range(8, 130)]].all()


@needs_kernels
@torch.no_grad()
def test_a_large_weight_is_rounded_part_by_part() -> None:
    inner = nn.Linear(2**10 + 7, 2 * PART // 2**10 + 5, dtype=BFLOAT16)
    layer = EightBitLinear.like(inner)
    x = torch.randn(2, inner.in_features, dtype=BFLOAT16)
    exact = nn.functional.linear(x.double(), rounded(inner.weight), inner.bias.double())
    torch.testing.assert_close(layer(x).double(), exact, rtol=2**-8, atol=1e-4)


@needs_kernels
@torch.no_grad()
def test_a_weight_that_is_exchanged_or_changed_in_place_is_rounded_anew() -> None:
    layer = EightBitLinear.like(nn.Linear(96, 130, dtype=BFLOAT16))
    x = torch.randn(2, 96, dtype=BFLOAT16)
    saved = copy.deepcopy(layer)  # as PEFT does for modules_to_save
    saved.weight.mul_(2)
    saved.bias = nn.Parameter(torch.ones(130, dtype=BFLOAT16))
    exact = nn.functional.linear(x.double(), rounded(saved.weight), saved.bias.double())
    torch.testing.assert_close(saved(x).double(), exact, rtol=2**-8, atol=1e-5)
    assert not torch.equal(saved(x), layer(x))
    layer.weight = nn.Parameter(torch.randn(200, 96, dtype=BFLOAT16))
    layer.bias = None
    assert layer(x).shape == (2, 200)


@needs_kernels
@torch.no_grad()
def test_in_full_the_weight_is_the_layer_s_own_and_afterwards_rounded_again() -> None:
    inner = nn.Linear(96, 130, dtype=BFLOAT16)
    layer, x = EightBitLinear.like(inner), torch.randn(2, 96, dtype=BFLOAT16)
    before = layer(x)
    with in_full(layer):
        assert torch.equal(layer(x), inner(x))
    assert torch.equal(layer(x), before)
    assert not torch.equal(before, inner(x))


@needs_kernels
@torch.no_grad()
def test_what_does_not_fit_is_refused_before_the_kernel_reads_beside_it() -> None:
    layer = EightBitLinear.like(nn.Linear(96, 130, dtype=BFLOAT16))
    x = torch.randn(2, 96, dtype=BFLOAT16)
    for width in (48, 192):
        with pytest.raises(ValueError, match=f"rows of {width} values"):
            layer(torch.randn(2, width, dtype=BFLOAT16))
    for scale, bias in (
        (layer.scale.bfloat16(), None),
        (layer.scale, layer.wide_bias[:129]),
        (layer.scale, layer.wide_bias.double()),
        (layer.scale.repeat_interleave(2)[::2], None),
    ):
        with pytest.raises(ValueError, match="float32"):
            kernels.product_eight_bit(x, layer.panels, scale, bias)
    panels = PanelLinear.like(nn.Linear(96, 130, dtype=BFLOAT16)).panels
    for wrong, outputs in ((panels, 130), (layer.panels, 161), (layer.panels, 128), (layer.panels[:, ::2], 130)):
        with pytest.raises(ValueError, match="no panels"):
            kernels.product_eight_bit(x, wrong, torch.ones(outputs), None)
    with pytest.raises(ValueError, match="no panels"):
        kernels.product(x, layer.panels, None, 130)
    with pytest.raises(RuntimeError):
        layer.float()(x)
