"""Contestants in processes of their own, taking turns: neither shares memory settings, caches or peaks."""

import multiprocessing
import statistics
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

from mmdet.errors import ConfigError, MMDetError

Figures = dict[str, float]


def take_turns(
    makers: Mapping[str, Callable[[Any], Callable[[], Figures]]], setup: Any, rounds: int, warmup: int = 2
) -> dict[str, Figures]:
    """Return the medians of each contestant's figures; in every round each runs once, alone.

    Args:
        makers: name -> function at the top of a module, which gets `setup` and returns what a turn runs.
        setup: what all get; small and picklable.
        rounds: turns that count.
        warmup: turns before them.

    Raises:
        MMDetError: as a contestant raised it.
    """
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes = []
    rows: dict[str, list[Figures]] = {name: [] for name in makers}
    try:
        for name, maker in makers.items():
            pipes[name], end = context.Pipe()
            processes.append(context.Process(target=_serve, args=(end, maker, setup), daemon=True))
            processes[-1].start()
            end.close()
        for number in range(warmup + rounds):
            for name, pipe in pipes.items():
                pipe.send(None)
                figures = pipe.recv()
                if isinstance(figures, MMDetError):
                    raise figures
                if number >= warmup:
                    rows[name].append(figures)
    except (EOFError, ConnectionError):
        raise ConfigError(f"the process of {name!r} ended early; its message is above") from None
    finally:
        for pipe in pipes.values():
            pipe.close()  # ends _serve
        for process in processes:
            process.join()
    return {
        name: {key: statistics.median(row[key] for row in turns) for key in turns[0]}
        for name, turns in rows.items()
    }


def _serve(pipe: Connection, maker: Callable[[Any], Callable[[], Figures]], setup: Any) -> None:
    """Prepare, then run once for every message, until the other end closes."""
    work: Callable[[], Figures] | None = None
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        try:
            work = work or maker(setup)
            pipe.send(work())
        except MMDetError as error:
            pipe.send(error)
