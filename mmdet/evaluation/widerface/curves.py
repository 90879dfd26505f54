"""The precision-recall curves of the three settings as one PNG."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure  # not pyplot: no display, no global state

from mmdet.evaluation.widerface.ap import WiderResult
from mmdet.files import atomic_write

_COLORS = {"easy": "tab:blue", "medium": "tab:orange", "hard": "tab:red"}


def draw_curves(result: WiderResult, title: str = "WIDER FACE val") -> Figure:
    """Return the curves of all settings, AP and faces in the legend."""
    labels = {s: f"{s}  AP {result.ap[s]:.4f}  ({result.num_faces[s]:,} faces)" for s in result.curves}
    return plot_curves([(labels[s], curve, _COLORS[s]) for s, curve in result.curves.items()], title)


def plot_curves(curves: Iterable[tuple[str, np.ndarray, str | None]], title: str) -> Figure:
    """Return a 900 x 680 px figure: recall to the right, precision upwards.

    Args:
        curves: label, (n, 2) recall and precision, and colour of each (None: the next of matplotlib's).
        title: of the figure.
    """
    figure = Figure(figsize=(9, 6.8), dpi=100)
    axes = figure.add_subplot(title=title, xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
    for label, curve, color in curves:
        axes.plot(*curve.T, color=color, label=label)
    axes.grid(alpha=0.4)
    axes.legend(loc="lower left")
    return figure


def write_curves(result: WiderResult, path: str | Path, title: str = "WIDER FACE val") -> None:
    """Draw the curves to a PNG file.

    Raises:
        WriteError: it cannot be written.
    """
    save(draw_curves(result, title), path)


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure to a PNG file.

    Raises:
        WriteError: it cannot be written.
    """
    with atomic_write(path) as part:
        figure.savefig(part)
