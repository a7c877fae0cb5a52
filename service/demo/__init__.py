"""Tiny MiniCPM-V checkpoints with adapters, shipped as files, that know pictures of simple figures.

Knows nothing of the service: it only names and copies folders; drawing and training are modules of their own.
"""

import shutil
from pathlib import Path

__all__ = ["demo_bases", "demo_root", "write_demo"]


def demo_root() -> Path:
    """Returns the folder of the shipped checkpoints.

    `base`, `merged` and `adapters/` are a MiniCPM-V 4.6; `minicpmv4_5/` has a `base` and `adapters/` of its own.
    """
    return Path(__file__).parent / "checkpoints"


def demo_bases() -> dict[str, Path]:
    """Returns the folders of the bases by the names that the service has for them."""
    return {"demo": demo_root() / "base", "demo-4.5": demo_root() / "minicpmv4_5" / "base"}


def write_demo(output: Path) -> None:
    """Copies the shipped checkpoints to `output`, in the arrangement of `demo_root`.

    Raises:
        FileExistsError: `output` is a file, or a folder that is not empty; nothing was written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"refusing to write into {output}: it exists and is not an empty folder")
    shutil.copytree(demo_root(), output, dirs_exist_ok=True)
