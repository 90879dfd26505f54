"""Boxes, keypoints and anchors drawn into images, and many images on one sheet."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

Color = tuple[int, int, int]  # blue, green, red

GREEN, GRAY, RED, YELLOW, CYAN = (0, 255, 0), (160, 160, 160), (0, 0, 255), (0, 220, 255), (255, 255, 0)
_FAR = 1e4  # pixels; OpenCV draws nothing sensible beyond
_PAPER = 255


def draw_bboxes(image: np.ndarray, bboxes: np.ndarray, color: Color, thickness: int = 1) -> None:
    """Draw (n, 4) xyxy boxes into a (H, W, 3) uint8 image."""
    for x1, y1, x2, y2 in np.clip(bboxes, -_FAR, _FAR).round().astype(int).tolist():
        cv2.rectangle(image, (x1, y1), (x2, y2), color, thickness)


def draw_points(image: np.ndarray, points: np.ndarray, color: Color, radius: int = 1) -> None:
    """Draw (..., 2) points, or (..., 3) with a weight: those of weight 0 are left out."""
    rows = points.reshape(-1, points.shape[-1])
    if rows.shape[1] == 3:
        rows = rows[rows[:, 2] > 0]
    for x, y in np.clip(rows[:, :2], -_FAR, _FAR).round().astype(int).tolist():
        cv2.circle(image, (x, y), radius, color, -1)


def draw_faces(image: np.ndarray, bboxes: np.ndarray, kps: np.ndarray, ignored: np.ndarray) -> None:
    """Draw labels: boxes green, ignore boxes gray, annotated points red."""
    draw_bboxes(image, ignored, GRAY)
    draw_bboxes(image, bboxes, GREEN)
    draw_points(image, kps, RED)


def draw_text(image: np.ndarray, text: str, x: float, y: float, color: Color) -> None:
    """Write a few characters whose lower left corner is at x, y."""
    cv2.putText(image, text, (round(x), round(y)), cv2.FONT_HERSHEY_SIMPLEX, 0.4, color)


def fit(image: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """Return the image resized so that its longer side is `side`, and the factor."""
    scale = side / max(image.shape[:2])
    size_wh = [max(round(length * scale), 1) for length in image.shape[1::-1]]
    return cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), scale


def make_sheet(images: Iterable[np.ndarray], side: int, columns: int) -> np.ndarray:
    """Return images of at most side x side pixels on one white sheet, row by row."""
    tiles = [_tile(image, side) for image in images]
    tiles += [np.full_like(tiles[0], _PAPER)] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])


def spread(count: int, most: int) -> Sequence[int]:
    """Return up to `most` indices spread evenly over range(count)."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist()


def encode(path: str, image: np.ndarray) -> bytes:
    """Return the image as a file of the path's kind."""
    return cv2.imencode(path[path.rindex(".") :], image)[1].tobytes()


def _tile(image: np.ndarray, side: int) -> np.ndarray:
    tile = np.full((side, side, 3), _PAPER, np.uint8)
    tile[: image.shape[0], : image.shape[1]] = image[:side, :side]
    return tile
