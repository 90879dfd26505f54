"""The precision-recall curves of the three settings as one PNG, drawn with OpenCV (no matplotlib needed)."""

from pathlib import Path

import cv2
import numpy as np

from mmdet.errors import DataError
from mmdet.evaluation.widerface.ap import WiderResult

_COLORS = {"easy": (180, 119, 31), "medium": (14, 127, 255), "hard": (40, 39, 214)}  # BGR
_INK, _GRID, _PAPER = (40, 40, 40), (225, 225, 225), (255, 255, 255)
_ZOOM = 2  # everything is drawn twice as large, then averaged down
_SIZE_WH = (900, 680)
_LEFT, _TOP, _RIGHT, _BOTTOM = 90, 60, 30, 80


def draw_curves(result: WiderResult, title: str = "WIDER FACE val") -> np.ndarray:
    """Return a (680, 900, 3) uint8 BGR picture: recall to the right, precision upwards, AP in the legend."""
    width, height = (_ZOOM * v for v in _SIZE_WH)
    image = np.full((height, width, 3), _PAPER, np.uint8)
    _draw_axes(image)
    for setting, curve in result.curves.items():
        points = _to_pixels(curve[~np.isnan(curve).any(axis=1)])
        if len(points):
            cv2.polylines(image, [points], False, _COLORS[setting], 3 * _ZOOM // 2, cv2.LINE_AA)
    _text(image, title, (_SIZE_WH[0] / 2, _TOP / 2 + 6), 0.75, bold=True)
    _draw_legend(image, result)
    return cv2.resize(image, _SIZE_WH, interpolation=cv2.INTER_AREA)


def write_curves(result: WiderResult, path: str | Path, title: str = "WIDER FACE val") -> None:
    """Draw the curves to a PNG file."""
    _, png = cv2.imencode(".png", draw_curves(result, title))
    try:
        Path(path).write_bytes(png.tobytes())
    except OSError as error:
        raise DataError(f"{path}: cannot write the curves there ({error}).") from error


def _to_pixels(recall_precision: np.ndarray) -> np.ndarray:
    """Map (n, 2) recall, precision in [0, 1] to (n, 2) int32 pixels of the enlarged picture."""
    width, height = _SIZE_WH
    x = _LEFT + recall_precision[:, 0] * (width - _LEFT - _RIGHT)
    y = height - _BOTTOM - recall_precision[:, 1] * (height - _TOP - _BOTTOM)
    return np.rint(_ZOOM * np.stack([x, y], axis=1)).astype(np.int32)


def _draw_axes(image: np.ndarray) -> None:
    for tick in np.linspace(0, 1, 11):
        for ends in ([[tick, 0], [tick, 1]], [[0, tick], [1, tick]]):
            a, b = _to_pixels(np.array(ends))
            cv2.line(image, a.tolist(), b.tolist(), _GRID, _ZOOM // 2, cv2.LINE_AA)
        (x, y), (x0, y1) = _to_pixels(np.array([[tick, 0.0], [0.0, tick]])) / _ZOOM
        _text(image, f"{tick:.1f}", (x, y + 24), 0.5)
        _text(image, f"{tick:.1f}", (x0 - 26, y1), 0.5)
    corner, opposite = _to_pixels(np.array([[0.0, 0.0], [1.0, 1.0]]))
    cv2.rectangle(image, corner.tolist(), opposite.tolist(), _INK, _ZOOM, cv2.LINE_AA)
    (x, y), (x0, y1) = _to_pixels(np.array([[0.5, 0.0], [0.0, 0.5]])) / _ZOOM
    _text(image, "recall", (x, y + 56), 0.65)
    _text(image, "precision", (x0 - 60, y1), 0.65, upwards=True)


def _draw_legend(image: np.ndarray, result: WiderResult) -> None:
    """List name, AP and number of faces, bottom left, where a good detector's curves never come."""
    x, y = _LEFT + 22, _SIZE_WH[1] - _BOTTOM - 34 * len(result.curves) - 14
    box = [[x - 10, y - 8], [x + 350, y + 34 * len(result.curves)]]
    a, b = (_ZOOM * np.array(box)).tolist()
    cv2.rectangle(image, a, b, _PAPER, -1)
    cv2.rectangle(image, a, b, _GRID, _ZOOM, cv2.LINE_AA)
    for setting in result.curves:
        y += 17
        start, end = (_ZOOM * np.array([[x, y - 5], [x + 40, y - 5]])).tolist()
        cv2.line(image, start, end, _COLORS[setting], 2 * _ZOOM, cv2.LINE_AA)
        columns = (setting, f"AP {result.ap[setting]:.4f}", f"({result.num_faces[setting]:,} faces)")
        for text, offset in zip(columns, (52, 130, 225), strict=True):
            at = (_ZOOM * (x + offset), _ZOOM * y)
            cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.55 * _ZOOM, _INK, _ZOOM, cv2.LINE_AA)
        y += 17


def _text(
    image: np.ndarray,
    text: str,
    center_xy: tuple[float, float],
    scale: float,
    bold: bool = False,
    upwards: bool = False,
) -> None:
    """Write `text` around a centre given in pixels of the final picture."""
    font, thick = cv2.FONT_HERSHEY_SIMPLEX, _ZOOM * (2 if bold else 1)
    (width, height), base = cv2.getTextSize(text, font, scale * _ZOOM, thick)
    patch = np.full((height + 2 * base, width, 3), _PAPER, np.uint8)
    cv2.putText(patch, text, (0, height + base // 2), font, scale * _ZOOM, _INK, thick, cv2.LINE_AA)
    if upwards:
        patch = cv2.rotate(patch, cv2.ROTATE_90_COUNTERCLOCKWISE)
    x = int(_ZOOM * center_xy[0]) - patch.shape[1] // 2
    y = int(_ZOOM * center_xy[1]) - patch.shape[0] // 2
    x, y = max(x, 0), max(y, 0)
    target = image[y : y + patch.shape[0], x : x + patch.shape[1]]
    np.minimum(target, patch[: target.shape[0], : target.shape[1]], out=target)
