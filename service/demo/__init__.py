"""A tiny MiniCPM-V checkpoint with four adapters, shipped as files, that knows pictures of simple figures.

Knows nothing of the service: it only copies folders; drawing and training are modules of their own.
"""

import shutil
from pathlib import Path

__all__ = ["demo_root", "write_demo"]


def demo_root() -> Path:
    """Returns the folder of the shipped checkpoints: `base`, `merged` and `adapters/`."""
    return Path(__file__).parent / "checkpoints"


def write_demo(output: Path) -> None:
    """Copies the shipped checkpoints to `output/base`, `output/merged` and `output/adapters/*`.

    Raises:
        FileExistsError: `output` is a file, or a folder that is not empty; nothing was written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"refusing to write into {output}: it exists and is not an empty folder")
    shutil.copytree(demo_root(), output, dirs_exist_ok=True)
