"""Measures what linear layers cost on a CPU: PyTorch's own, panels of bfloat16 and of 8 bits, packed, and float32.

    python benchmarks/linear.py --threads 2

Weights are taken in turn from more than the processor's caches hold, as a model's are. The last column is what torchao
runs for weights of 8 bits on a CPU, `_weight_int8pack_mm`; the service does not use it.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn

from service.engine.lean.eight_bit import EightBitLinear, quantised
from service.engine.lean.linear import PackedLinear, PanelLinear

SHAPES = ((1536, 512), (512, 1536), (3584, 1024), (1024, 3584))
ROWS = (1, 8, 32, 64, 96, 256)
WEIGHT_BYTES = 150_000_000
ROUNDS = 5


def microseconds(layers: list[Callable[[torch.Tensor], torch.Tensor]], x: torch.Tensor) -> float:
    """Return the median time of one layer over several rounds through all of them."""
    found = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        for layer in layers:
            layer(x)
        found.append((time.perf_counter() - started) / len(layers) * 1e6)
    return statistics.median(found[1:])


def in_float32(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Multiply in float32; a weight of another type is turned each time."""
    return F.linear(x.float(), weight.float()).bfloat16()


def in_eight_bit(weight: torch.Tensor, scale: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Multiply as torchao does on a CPU."""
    return torch._weight_int8pack_mm(x, weight, scale)


@torch.inference_mode()
def main() -> None:
    """Run the measurement and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    print("microseconds; gigaflops of the fastest\n")
    columns = ("PyTorch", "panels", "8 bits", "packed", "float32, turned each time", "float32, kept", "8 bits, PyTorch")
    print(f"| weight | rows | {' | '.join(columns)} | Gflop/s |")
    print("| --- " * (len(columns) + 3) + "|")
    for num_out, num_in in SHAPES:
        count = max(2, WEIGHT_BYTES // (num_out * num_in * 2))
        plain = [nn.Linear(num_in, num_out, bias=False, dtype=torch.bfloat16) for _ in range(count)]
        panels = [PanelLinear.like(one) for one in plain]
        eight_bit = [EightBitLinear.like(one) for one in plain]
        packed = [PackedLinear(one) for one in plain]
        kept = [one.weight.float() for one in plain]
        small = [(values, scale.bfloat16()) for values, scale in (quantised(one.weight) for one in plain)]
        for rows in ROWS:
            x = torch.randn(rows, num_in, dtype=torch.bfloat16)
            times = [
                microseconds(list(plain), x),
                microseconds(list(panels), x),
                microseconds(list(eight_bit), x),
                microseconds(list(packed), x),
                microseconds([partial(in_float32, one.weight) for one in plain], x),
                microseconds([partial(in_float32, weight) for weight in kept], x),
                microseconds([partial(in_eight_bit, *one) for one in small], x),
            ]
            speed = 2 * rows * num_in * num_out / min(times) / 1e3
            print(
                f"| {num_out} x {num_in} | {rows} | " + " | ".join(f"{one:.0f}" for one in times) + f" | {speed:.0f} |"
            )


if __name__ == "__main__":
    main()
