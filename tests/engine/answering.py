"""Questions to the demo with every adapter, and what a loaded model answers to them."""

import time
from dataclasses import replace

from jobs import ask

from service.demo.drawing import Scene, draw
from service.domain.generation import Event, Generation, Job
from service.engine.assembly import assemble
from service.engine.loading import LoadedModel
from service.engine.preparing import Preparer

ADAPTERS = ("json", "tokens", "official")
CIRCLE = draw(Scene("red", "circle", 1, "top left", 1))
STARS = draw(Scene("blue", "star", 2, "center", 5), (300, 200))
JOBS = [
    ask(text, picture, adapter=adapter)
    for adapter in (None, *ADAPTERS)
    for text, picture in (("What is in the picture?", CIRCLE), ("图里有什么？", STARS))
]


def answers(loaded: LoadedModel, jobs: list[Job]) -> list[str]:
    """Run jobs beside one another to their ends."""
    parts = assemble(loaded, 8, 64e6, lambda step: None, largest_piece=64)
    preparer = Preparer(loaded, parts.slots.max_tokens, 64)
    told: list[list[Event]] = [[] for _ in jobs]
    for job, events in zip(jobs, told, strict=True):
        job = replace(job, deadline=time.monotonic() + 100)
        parts.batch.add(preparer.prepare(job, events.append, time.monotonic()))
    while not parts.batch.is_idle:
        parts.batch.step()
    last = [events[-1] for events in told]
    assert all(isinstance(one, Generation) for one in last), last
    return [one.text for one in last if isinstance(one, Generation)]
