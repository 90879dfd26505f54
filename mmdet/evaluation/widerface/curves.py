"""Curves of recall and precision as one PNG, drawn by OpenCV: matplotlib takes as long as 20 images."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from mmdet.evaluation.widerface.ap import WiderResult
from mmdet.files import write_bytes
from mmdet.visualize.draw import Color

_COLORS: dict[str, Color] = {"easy": (180, 119, 31), "medium": (14, 127, 255), "hard": (40, 39, 214)}
_MORE_COLORS: tuple[Color, ...] = (*_COLORS.values(), (44, 160, 44), (189, 103, 148), (75, 86, 140))
_INK, _GRID, _PAPER = (40, 40, 40), (215, 215, 215), (255, 255, 255)
_SIZE_WH = (900, 680)
_LEFT, _TOP, _RIGHT, _BOTTOM = 80, 60, 870, 610  # of the axes, pixels
_SHIFT = 4  # bits of a pixel's fraction in OpenCV's coordinates

Curve = tuple[str, np.ndarray, Color | None]


def draw_curves(result: WiderResult, title: str = "WIDER FACE val") -> np.ndarray:
    """Return `plot_curves` of all settings, AP and faces in the legend."""
    labels = {s: f"{s}  AP {result.ap[s]:.4f}  ({result.num_faces[s]:,} faces)" for s in result.curves}
    return plot_curves([(labels[s], curve, _COLORS.get(s)) for s, curve in result.curves.items()], title)


def plot_curves(curves: Iterable[Curve], title: str) -> np.ndarray:
    """Return a (680, 900, 3) uint8 BGR image: recall to the right, precision upwards.

    Args:
        curves: label, (n, 2) recall and precision (rows with nan are left out), and colour of each; None: the
            next of a list.
        title: of the image.
    """
    image = np.full((*_SIZE_WH[::-1], 3), _PAPER, np.uint8)
    _draw_axes(image, title)
    legend = []
    for number, (label, curve, color) in enumerate(curves):
        color = color or _MORE_COLORS[number % len(_MORE_COLORS)]
        _line(image, curve[~np.isnan(curve).any(axis=1)], color, 2)
        legend.append((label, color))
    for row, (label, color) in enumerate(reversed(legend)):  # lower left, where good curves never come
        y = _BOTTOM - 20 - 26 * row
        cv2.line(image, (_LEFT + 15, y - 5), (_LEFT + 50, y - 5), color, 2)
        _text(image, label, _LEFT + 60, y)
    return image


def write_curves(result: WiderResult, path: str | Path, title: str = "WIDER FACE val") -> None:
    """Draw the curves to a PNG file.

    Raises:
        WriteError: it cannot be written.
    """
    save(draw_curves(result, title), path)


def save(image: np.ndarray, path: str | Path) -> None:
    """Write an image to a PNG file.

    Raises:
        WriteError: it cannot be written.
    """
    write_bytes(path, cv2.imencode(".png", image)[1].tobytes())


def _draw_axes(image: np.ndarray, title: str) -> None:
    for tick in np.linspace(0, 1, 6):
        _line(image, np.array([[tick, 0], [tick, 1]]), _GRID, 1)
        _line(image, np.array([[0, tick], [1, tick]]), _GRID, 1)
        x, y = _to_pixels(np.array([tick, tick])).round().astype(int).tolist()
        _text(image, f"{tick:.1f}", x - 12, _BOTTOM + 22)
        _text(image, f"{tick:.1f}", _LEFT - 38, y + 5)
    cv2.rectangle(image, (_LEFT, _TOP), (_RIGHT, _BOTTOM), _INK)
    _text(image, title, _LEFT + 90, _TOP - 15, 0.65)
    _text(image, "precision", 10, _TOP - 15)
    _text(image, "recall", (_LEFT + _RIGHT) // 2 - 20, _BOTTOM + 50)


def _to_pixels(recall_precision: np.ndarray) -> np.ndarray:
    """Map (..., 2) recall, precision in [0, 1] to (..., 2) x, y."""
    origin, size = np.array([_LEFT, _BOTTOM]), np.array([_RIGHT - _LEFT, _TOP - _BOTTOM])
    return origin + recall_precision * size


def _line(image: np.ndarray, recall_precision: np.ndarray, color: Color, thickness: int) -> None:
    points = (_to_pixels(recall_precision) * 2**_SHIFT).round().astype(np.int32)
    cv2.polylines(image, [points], False, color, thickness, cv2.LINE_AA, _SHIFT)


def _text(image: np.ndarray, text: str, x: int, y: int, scale: float = 0.5) -> None:
    """Write text whose lower left corner is at x, y."""
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)
