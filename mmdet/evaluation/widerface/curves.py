"""The precision-recall curves of the three settings as one PNG."""

from pathlib import Path

from matplotlib.figure import Figure  # not pyplot: no display, no global state

from mmdet.evaluation.widerface.ap import WiderResult
from mmdet.files import atomic_write

_COLORS = {"easy": "tab:blue", "medium": "tab:orange", "hard": "tab:red"}


def draw_curves(result: WiderResult, title: str = "WIDER FACE val") -> Figure:
    """Return a 900 x 680 px figure: recall to the right, precision upwards, AP and faces in the legend."""
    figure = Figure(figsize=(9, 6.8), dpi=100)
    axes = figure.add_subplot(title=title, xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
    for setting, curve in result.curves.items():
        label = f"{setting}  AP {result.ap[setting]:.4f}  ({result.num_faces[setting]:,} faces)"
        axes.plot(*curve.T, color=_COLORS[setting], label=label)
    axes.grid(alpha=0.4)
    axes.legend(loc="lower left")
    return figure


def write_curves(result: WiderResult, path: str | Path, title: str = "WIDER FACE val") -> None:
    """Draw the curves to a PNG file.

    Raises:
        WriteError: it cannot be written.
    """
    with atomic_write(path) as part:
        draw_curves(result, title).savefig(part)
