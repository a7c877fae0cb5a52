"""Where a verb writes a folder: refuses what would destroy something, and gives the finished folder its name.

Knows no file of it.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Refused(Exception):
    """Nothing may be written there; the message says why and what would work."""


@contextmanager
def new_folder(output: Path, *sources: str | None) -> Iterator[Path]:
    """Give a place to write to, beside the output; what is there at the end becomes the output.

    Args:
        output: A folder that is new or empty.
        sources: What is read; the output may not lie inside of them.

    Yields:
        A folder that does not exist yet. If it does not exist at the end either, there is no output.

    Raises:
        Refused: The output holds something, or lies inside a source.
        OSError: It cannot be written.
    """
    _refuse(output, sources)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as temporary:
        folder = Path(temporary) / "new"
        yield folder
        if folder.is_dir():
            _publish(folder, output)


def reason_of(error: OSError) -> str:
    """Say what went wrong in one line; copying a folder collects its errors in a list."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        source, _, why = error.args[0][0]
        return f"{Path(source).name} cannot be copied: {why}"
    return error.strerror or str(error)


def _refuse(output: Path, sources: tuple[str | None, ...]) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise Refused(f"refusing to write into {output}: it exists and is not an empty folder")
    for source in sources:
        if source and Path(source).is_dir() and output.resolve().is_relative_to(Path(source).resolve()):
            raise Refused(
                f"refusing to write into {output}: it lies inside {source}, which is only read; name a folder elsewhere"
            )


def _publish(folder: Path, output: Path) -> None:
    """Let others read what was written, as safetensors and temporary folders do not, and give it its name."""
    mask = os.umask(0)
    os.umask(mask)
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
    if output.exists():
        output.rmdir()
    shutil.move(folder, output)
