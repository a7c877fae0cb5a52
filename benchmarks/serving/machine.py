"""What the numbers were measured on: processor, cores, memory, and what a process takes of it.

Knows no server. Linux only: it reads /proc.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

FLAGS = ("avx512f", "avx512_bf16", "amx_bf16")


def describe_machine(num_threads: int) -> str:
    """Return processor, what it can do with bfloat16, cores, threads and memory as one line."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model, flags = (_field(text, name) for name in ("model name", "flags"))
    known = [flag for flag in FLAGS if flag in flags.split()]
    gigabytes = int(re.findall(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(encoding="utf-8"))[0]) / 2**20
    return (
        f"{model} ({', '.join(known) or 'no AVX-512'}), {os.cpu_count()} cores, {num_threads} threads per server, "
        f"{gigabytes:.0f} GiB, load {os.getloadavg()[0]:.1f} at the start"
    )


def commit() -> str:
    """Return the commit of the working tree, marked if it has changes."""
    run = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return run.stdout.strip() or "unknown"


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants; pages that they share count for each."""
    return sum(_status(one, "VmRSS") for one in (pid, *_descendants(pid)))


def _descendants(pid: int) -> Iterator[int]:
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text(encoding="utf-8").split()
        except OSError:  # the thread ended
            continue
        for child in map(int, children):
            yield child
            yield from _descendants(child)


def _status(pid: int, name: str) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:  # the process ended
        return 0
    return int(_field(text, name).removesuffix("kB") or 0) * 1024


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""
