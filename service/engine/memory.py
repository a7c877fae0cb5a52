"""How much memory the engine may take for caches.

Knows no cache; asks the device and the operating system.
"""

from pathlib import Path

import psutil
import torch

GPU_SHARE, CPU_SHARE = 0.85, 0.25
"""Shares of what is free after loading, where the settings name none; a CPU's memory is not the service's alone."""
CGROUP_LIMIT, CGROUP_USED = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")


def cache_budget(device: torch.device, wanted: float | None) -> int:
    """Return the bytes for caches.

    Args:
        device: Where the model is; measured after loading.
        wanted: A share of what is free up to 1, a number of bytes above; None for the default share.
    """
    if wanted is not None and wanted > 1:
        return int(wanted)
    share = wanted or (GPU_SHARE if device.type == "cuda" else CPU_SHARE)
    return int(free_bytes(device) * share)


def free_bytes(device: torch.device) -> int:
    """Give back what nobody uses; return what is free on the device, or on the host within the container's limit."""
    if hasattr(psutil, "heap_trim"):  # psutil has it for glibc
        psutil.heap_trim()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(device)[0])
    return min(int(psutil.virtual_memory().available), _container_free())


def _container_free() -> int:
    try:
        limit, used = CGROUP_LIMIT.read_text().strip(), int(CGROUP_USED.read_text())
        return max(int(limit) - used, 0) if limit != "max" else 1 << 62
    except (OSError, ValueError):
        return 1 << 62
