"""The precision-recall curves of the three settings as one PNG, drawn by matplotlib without a display."""

from pathlib import Path

import cv2
import numpy as np

from mmdet.evaluation.widerface.ap import WiderResult
from mmdet.files import write_bytes

COLORS = {"easy": "C0", "medium": "C1", "hard": "C3"}
SIZE_INCH, DPI = (9.0, 6.8), 100


def draw_curves(result: WiderResult, title: str = "WIDER FACE val") -> np.ndarray:
    """Return a (680, 900, 3) uint8 BGR image: recall to the right, precision upwards, AP in the legend."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # half a second, for this image only
    from matplotlib.figure import Figure

    figure = Figure(SIZE_INCH, DPI, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    for setting, curve in result.curves.items():
        recall, precision = curve[~np.isnan(curve).any(axis=1)].T
        label = f"{setting}   AP {result.ap[setting]:.4f}   ({result.num_faces[setting]:,} faces)"
        axes.plot(recall, precision, COLORS[setting], label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision", title=title)
    axes.grid(color="0.88")
    if result.curves:
        axes.legend(loc="lower left")  # where a good detector's curves never come
    canvas.draw()
    return cv2.cvtColor(np.asarray(canvas.buffer_rgba()), cv2.COLOR_RGBA2BGR)


def write_curves(result: WiderResult, path: str | Path, title: str = "WIDER FACE val") -> None:
    """Draw the curves to a PNG file.

    Raises:
        WriteError: it cannot be written.
    """
    _, png = cv2.imencode(".png", draw_curves(result, title))
    write_bytes(path, png.tobytes())
