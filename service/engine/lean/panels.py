"""Compiles and calls `panels.c`, which multiplies few rows of bfloat16 with a matrix.

It is compiled when a model is loaded, for the very processor that runs it, in half a second. Where there is no
compiler or no AVX-512, there is no kernel, and callers do without.
"""

import ctypes
import functools
import logging
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Protocol

import torch

SOURCE = Path(__file__).with_name("panels.c")
COMPILERS = ("cc", "gcc", "clang")
OPTIONS = ("-O3", "-march=native", "-fopenmp", "-fno-strict-aliasing", "-shared", "-fPIC")
PANEL = 32
"""Outputs side by side, as in `panels.c`."""
MAX_COMPILE_SECONDS = 60

log = logging.getLogger(__name__)


class Multiply(Protocol):
    """Takes addresses, of bfloat16 `x`, panels, float32 bias or None, bfloat16 `y`, and sizes."""

    def __call__(
        self, x: int, panels: int, bias: int | None, y: int, rows: int, num_in: int, num_out: int, /
    ) -> int: ...


@functools.cache
def kernel() -> Multiply | None:
    """Return the compiled function; None where it cannot be had, which is logged once with the reason."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return None
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        log.warning("no C compiler (%s): bfloat16 on this processor is computed at half the speed", COMPILERS[0])
        return None
    with tempfile.TemporaryDirectory(prefix="minicpm-service-") as folder:
        library = Path(folder) / "panels.so"
        try:
            subprocess.run(  # noqa: S603 - a compiler of the system, and a source of our own
                [compiler, *OPTIONS, str(SOURCE), "-o", str(library)],
                check=True,
                capture_output=True,
                text=True,
                timeout=MAX_COMPILE_SECONDS,
            )
            multiply = ctypes.CDLL(str(library)).multiply  # stays mapped when the file is gone
        except (OSError, subprocess.SubprocessError) as error:
            said = str(getattr(error, "stderr", None) or error).strip().splitlines()
            log.warning("%s cannot compile %s: %s", compiler, SOURCE.name, said[0] if said else type(error).__name__)
            return None
    multiply.argtypes = [*[ctypes.c_void_p] * 4, *[ctypes.c_long] * 3]
    multiply.restype = ctypes.c_int
    found: Multiply = multiply
    return found


def laid_out(weight: torch.Tensor) -> torch.Tensor:
    """Lay a matrix out as the kernel reads it.

    Args:
        weight: `(num_out, num_in)` in bfloat16.

    Returns:
        Its values in panels of 32 outputs, `(panels, num_in, 16, 2)`: of every input output j beside output j + 16. The
        last panel is filled up with zeros.
    """
    num_out, num_in = weight.shape
    whole = torch.nn.functional.pad(weight.detach(), (0, 0, 0, -num_out % PANEL))
    return whole.view(-1, 2, PANEL // 2, num_in).permute(0, 3, 2, 1).contiguous()


def product(
    multiply: Multiply, x: torch.Tensor, panels: torch.Tensor, bias: torch.Tensor | None, num_out: int
) -> torch.Tensor:
    """Multiply rows with a matrix.

    Args:
        multiply: The kernel.
        x: `(..., num_in)` in bfloat16, on the CPU.
        panels: The matrix, as `laid_out` gives it.
        bias: `(num_out,)` in float32, or None.
        num_out: Rows of the matrix.

    Returns:
        `(..., num_out)` in bfloat16, summed in float32.
    """
    x = x.contiguous()
    num_in = x.shape[-1]
    y = x.new_empty((*x.shape[:-1], num_out))
    rows = x.numel() // num_in
    address = None if bias is None else bias.data_ptr()
    if multiply(x.data_ptr(), panels.data_ptr(), address, y.data_ptr(), rows, num_in, num_out):
        raise MemoryError(f"{rows} x {num_in} values in float32 cannot be allocated")
    return y
