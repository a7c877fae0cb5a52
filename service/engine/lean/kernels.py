"""Compiles the kernels in `native/` and calls them with tensors.

They are compiled when a model is loaded, for the very processor that runs it, in a second. Where there is no compiler
or no AVX-512, there are none, and callers do without.
"""

import ctypes
import functools
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).with_name("native")
COMPILERS = ("cc", "gcc", "clang")
OPTIONS = ("-O3", "-march=native", "-fopenmp", "-fno-strict-aliasing", "-shared", "-fPIC")
MAX_COMPILE_SECONDS = 60
PANEL = 32
"""Outputs side by side, as in `panels.c`."""
LANES = 16
"""Values that are computed at once, as in `bfloat16.h`."""
ADDRESS, SIZE, FLOAT = ctypes.c_void_p, ctypes.c_long, ctypes.c_float
FUNCTIONS: dict[str, list[Any]] = {
    "multiply": [ADDRESS] * 4 + [SIZE] * 3,
    "multiply_eight_bit": [ADDRESS] * 5 + [SIZE] * 3,
    "rms_norm": [ADDRESS] * 3 + [FLOAT] + [SIZE] * 2,
    "gated": [ADDRESS] * 3 + [SIZE],
    "convolve": [ADDRESS] * 3 + [SIZE] * 4,
    "delta_net": [ADDRESS] * 9 + [FLOAT] + [SIZE] * 6,
}

log = logging.getLogger(__name__)


def are_there() -> bool:
    """Say whether the kernels can be had, and compile them at the first call."""
    return _library() is not None


def lacking() -> str:
    """Say what the kernels would need, or why they cannot be had; empty if they can."""
    if are_there():
        return ""
    if not _is_processor_suitable():
        return "the processor lacks AVX-512"
    return "no C compiler here compiles the kernels (the log says why)"


def suit(*tensors: torch.Tensor) -> bool:
    """Say whether the kernels can compute with these: bfloat16 on the CPU, of which nobody wants gradients."""
    return not torch.is_grad_enabled() and all(
        one.dtype == torch.bfloat16 and one.device.type == "cpu" for one in tensors
    )


@functools.cache
def _library() -> ctypes.CDLL | None:
    if not _is_processor_suitable():
        return None
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        log.warning("no C compiler (%s): bfloat16 on this processor is computed more slowly", COMPILERS[0])
        return None
    try:
        return _compiled(compiler)
    except (OSError, AttributeError, subprocess.SubprocessError) as error:  # no folder to write to, or to load from
        said = str(getattr(error, "stderr", None) or error).strip().splitlines()
        log.warning("%s cannot compile the kernels: %s", compiler, said[0] if said else type(error).__name__)
        return None


def _is_processor_suitable() -> bool:
    return bool(torch.backends.cpu.get_cpu_capability() == "AVX512")


def _compiled(compiler: str) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="minicpm-service-", ignore_cleanup_errors=True) as folder:
        target = Path(folder) / "kernels.so"
        subprocess.run(  # noqa: S603 - a compiler of the system, and sources of our own
            [compiler, *OPTIONS, *map(str, sorted(FOLDER.glob("*.c"))), "-o", str(target), "-lm"],
            check=True,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=MAX_COMPILE_SECONDS,
        )
        library = _loaded(target)
    for name, arguments in FUNCTIONS.items():
        getattr(library, name).argtypes = arguments
    return library


def _loaded(file: Path) -> ctypes.CDLL:
    """Load a library from memory: folders for temporary files may forbid it, as those of containers do."""
    descriptor = os.memfd_create(file.name)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as memory:
            memory.write(file.read_bytes())
        return ctypes.CDLL(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)  # what is mapped stays


def _function(name: str) -> Any:
    library = _library()
    if library is None:
        raise RuntimeError("there are no kernels")
    return getattr(library, name)


def laid_out(weight: torch.Tensor) -> torch.Tensor:
    """Lay a matrix out as `product` reads it.

    Args:
        weight: `(num_out, num_in)` in bfloat16.

    Returns:
        Its values in panels of 32 outputs, `(panels, num_in, 16, 2)`: of every input output j beside output j + 16. The
        last panel is filled up with zeros.
    """
    whole = _filled_up(weight)
    return whole.view(-1, 2, PANEL // 2, whole.shape[1]).permute(0, 3, 2, 1).contiguous()


def laid_out_eight_bit(weight: torch.Tensor) -> torch.Tensor:
    """Lay a matrix out as `product_eight_bit` reads it.

    Args:
        weight: `(num_out, num_in)` in int8.

    Returns:
        Its values in panels of 32 outputs, `(panels, num_in, 32)`. The last panel is filled up with zeros.
    """
    whole = _filled_up(weight)
    return whole.view(-1, PANEL, whole.shape[1]).transpose(1, 2).contiguous()


def _filled_up(weight: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(weight.detach(), (0, 0, 0, -len(weight) % PANEL))


def product(x: torch.Tensor, panels: torch.Tensor, bias: torch.Tensor | None, num_out: int) -> torch.Tensor:
    """Multiply rows with a matrix, summing in float32.

    Args:
        x: `(..., num_in)` in bfloat16.
        panels: The matrix, as `laid_out` gives it.
        bias: `(num_out,)` in float32, or None.
        num_out: Rows of the matrix.

    Returns:
        `(..., num_out)` in bfloat16.

    Raises:
        ValueError: Shapes or types do not fit; the kernel would read what is beside them in memory.
    """
    _expect(panels, torch.bfloat16, num_out)
    return _multiplied("multiply", x, panels, (bias,), num_out)


def product_eight_bit(
    x: torch.Tensor, panels: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Multiply rows with a matrix of 8 bits, summing in float32.

    Args:
        x: `(..., num_in)` in bfloat16.
        panels: The matrix, as `laid_out_eight_bit` gives it.
        scale: `(num_out,)` in float32: what the weights of each output are to be multiplied with.
        bias: `(num_out,)` in float32, or None.

    Returns:
        `(..., num_out)` in bfloat16.

    Raises:
        ValueError: As for `product`.
    """
    _expect(panels, torch.int8, len(scale))
    return _multiplied("multiply_eight_bit", x, panels, (scale, bias), len(scale))


def _expect(panels: torch.Tensor, dtype: torch.dtype, num_out: int) -> None:
    if panels.dtype != dtype or len(panels) != -(-num_out // PANEL) or not panels.is_contiguous():
        raise ValueError(f"these are no panels of {num_out} outputs in {dtype}: {panels.dtype} {tuple(panels.shape)}")


def _multiplied(
    name: str, x: torch.Tensor, panels: torch.Tensor, of_outputs: tuple[torch.Tensor | None, ...], num_out: int
) -> torch.Tensor:
    x = x.contiguous()
    num_in = x.shape[-1]
    if num_in != panels.shape[1]:
        raise ValueError(f"rows of {num_in} values cannot be multiplied with a matrix of {panels.shape[1]} columns")
    for one in of_outputs:
        if one is not None and (one.dtype != torch.float32 or one.shape != (num_out,) or not one.is_contiguous()):
            raise ValueError(f"a {one.dtype} tensor {tuple(one.shape)} is not one float32 value for {num_out} outputs")
    y = x.new_empty((*x.shape[:-1], num_out))
    rows = x.numel() // num_in
    addresses = [None if one is None else one.data_ptr() for one in of_outputs]
    if _function(name)(x.data_ptr(), panels.data_ptr(), *addresses, y.data_ptr(), rows, num_in, num_out):
        raise MemoryError(f"{rows} x {num_in} values in float32 cannot be allocated")
    return y


def rms_norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Norm rows.

    Args:
        x: `(..., size)` in bfloat16.
        weight: `(size,)` in float32.
        epsilon: Added to the mean of squares.

    Returns:
        `(..., size)` in bfloat16.
    """
    x = x.contiguous()
    y = torch.empty_like(x)
    size = x.shape[-1]
    _function("rms_norm")(x.data_ptr(), weight.data_ptr(), y.data_ptr(), epsilon, x.numel() // size, size)
    return y


def gated(gate: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return `silu(gate) * x`, all of one shape in bfloat16."""
    gate, x = gate.contiguous(), x.contiguous()
    y = torch.empty_like(x)
    _function("gated")(gate.data_ptr(), x.data_ptr(), y.data_ptr(), x.numel())
    return y


def convolve(window: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Convolve each channel with what came before, and apply SiLU.

    Args:
        window: `(rows, taps - 1 + tokens, channels)` in bfloat16: the past before the tokens.
        kernel: `(taps, channels)` in float32.

    Returns:
        `(rows, tokens, channels)` in float32.
    """
    window = window.contiguous()
    rows, length, channels = window.shape
    taps = len(kernel)
    y = torch.empty(rows, length - taps + 1, channels)
    _function("convolve")(window.data_ptr(), kernel.data_ptr(), y.data_ptr(), rows, length - taps + 1, channels, taps)
    return y


def delta_net(
    mixed: torch.Tensor,
    signals: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    constants: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    state: torch.Tensor,
    key_heads: int,
    epsilon: float,
) -> torch.Tensor:
    """Advance the recurrent states of Gated DeltaNet, and norm and gate what is read from them.

    Args:
        mixed: `(rows, tokens, channels)` in float32: queries, keys and values side by side.
        signals: What `in_proj_a`, `in_proj_b` and `in_proj_z` gave: twice `(rows, tokens, heads)`, and `(rows, tokens,
            heads * value size)`; bfloat16.
        constants: exp(A_log), dt_bias and the norm's weight; float32.
        state: `(rows, heads, key size, value size)` in float32, dense, changed in place.
        key_heads: Of queries and keys; each serves as many of the heads.
        epsilon: Of the norm.

    Returns:
        `(rows, tokens, heads * value size)` in bfloat16.

    Raises:
        ValueError: The signals are not of the same tokens, or not bfloat16.
    """
    if any(one.shape[:2] != mixed.shape[:2] or one.dtype != torch.bfloat16 for one in signals):
        raise ValueError(f"signals are not bfloat16, or not of {tuple(mixed.shape[:2])} tokens")
    a, b, gate = (one.contiguous() for one in signals)
    rows, tokens = mixed.shape[:2]
    _, heads, key_size, value_size = state.shape
    y = torch.empty_like(gate)
    addresses = [one.data_ptr() for one in (mixed, a, b, gate, *constants, state, y)]
    if _function("delta_net")(*addresses, epsilon, rows, tokens, key_heads, heads, key_size, value_size):
        raise MemoryError(f"{tokens} tokens of a prompt cannot be allocated")
    return y
