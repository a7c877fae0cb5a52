"""Jobs for the engine, and how to wait for their answers."""

import time
from queue import Queue

from service.domain.generation import Event, Failure, Generation, Job, Message, PictureRef, Sampling, TextPiece
from service.engine.engine import Engine


def greedy(max_new_tokens: int = 40, **more: object) -> Sampling:
    values = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0, "seed": None, "stop": ()}
    return Sampling(max_new_tokens=max_new_tokens, **{**values, "is_logprobs": False, **more})  # type: ignore[arg-type]


def ask(text: str, *pictures: object, adapter: str | None = None, sampling: Sampling | None = None) -> Job:
    references = tuple(PictureRef(index) for index in range(len(pictures)))
    message = Message("user", (*references, text))
    deadline = time.monotonic() + 60
    return Job("test", (message,), pictures, adapter, sampling or greedy(), deadline)  # type: ignore[arg-type]


def answer(engine: Engine, job: Job) -> tuple[list[TextPiece], Generation]:
    """Run a job to its end; a failure is raised."""
    events: Queue[Event] = Queue()
    engine.submit(engine.prepare(job, events.put, time.monotonic()))
    pieces = []
    while True:
        event = events.get(timeout=60)
        if isinstance(event, Failure):
            raise event.error
        if isinstance(event, Generation):
            return pieces, event
        pieces.append(event)
