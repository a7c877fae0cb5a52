"""The commands that make and measure the demo run from start to end; here in their shortest form."""

import re
import subprocess
import sys
from pathlib import Path

from safetensors import safe_open

from service.demo import demo_root

FOLDERS = (
    *("base", "merged", "adapters/json", "adapters/tokens", "adapters/official", "adapters/broken"),
    *("minicpmv4_5/base", "minicpmv4_5/adapters/official"),
)


def run(module: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def names_in(folder: Path) -> set[str]:
    (path,) = folder.glob("*.safetensors")
    with safe_open(path, framework="pt") as file:
        return set(file.keys())


def test_making_writes_every_folder_with_the_tensors_and_files_that_ship(tmp_path: Path) -> None:
    run("service.demo.make", "--output", str(tmp_path), "--effort", "0.0001", "--threads", "1")
    for folder in FOLDERS:
        assert {path.name for path in (tmp_path / folder).iterdir()} == {
            path.name for path in (demo_root() / folder).iterdir()
        }
        assert names_in(tmp_path / folder) == names_in(demo_root() / folder)


def test_evaluating_prints_a_share_of_right_answers_for_each_checkpoint() -> None:
    shown = run("service.demo.evaluate", "--samples", "4", "--only", "base", "json", "4.5")
    shares = dict(re.findall(r"^([\w.]+) +(\d+\.\d)%  \(\d of 4\)$", shown, re.MULTILINE))
    assert shares.keys() == {"base", "json", "4.5"}
    assert all(float(share) >= 50 for share in shares.values())
