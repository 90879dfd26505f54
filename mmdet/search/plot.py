"""Plots of the searches; matplotlib is loaded only here and only when something is drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.files import atomic_write

SIZE = (5, 3.2)  # inches; at 100 dpi a file of some 20 kB


def plot_evolution(history: Sequence[tuple[int, float, float, int]], path: Path, score: str) -> None:
    """Draw best and worst score of the population over the rounds."""
    figure, axes = _new(xlabel="round", ylabel=score)
    if history:
        rounds, best, worst, _ = zip(*history, strict=True)
        axes.fill_between(rounds, worst, best, alpha=0.3, label="population")
        axes.plot(rounds, best, label="best")
        axes.legend()
    _save(figure, path)


def _new(**labels: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # no pyplot: no window system, nothing global

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set(**labels)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    with atomic_write(path) as part:
        figure.savefig(part, dpi=100)
