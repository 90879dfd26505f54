"""Images with boxes, keypoints and scores."""

import cv2
import numpy as np

from mmdet.deploy.runtime.decode import Faces

# BGR. Boxes of class 0, 1, ...; the keypoints right eye, left eye, nose, right and left mouth corner as the
# viewer sees them from left to right.
CLASS_COLORS = ((80, 220, 60), (255, 170, 40), (60, 130, 255), (220, 80, 220), (40, 220, 240))
POINT_COLORS = ((60, 60, 255), (255, 170, 40), (0, 215, 255), (235, 90, 235), (255, 235, 60))
INK = (20, 20, 20)
SMALL_FACE = 24  # pixels; thinner lines below
WIDEST_LABEL = 1.25  # times the width of its face; a wider one would hide the neighbours, so it is left out
FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_faces(image: np.ndarray, found: Faces, classes: tuple[str, ...] = ("face",)) -> np.ndarray:
    """Return a copy of an image with the faces drawn in, the best ones on top.

    Line width follows the image's size, so that the result looks alike on 300 and 6,000 pixels.

    Args:
        image: (H, W, 3) uint8 BGR.
        found: in pixels of the image.
        classes: their names; written beside the score if there are several.
    """
    canvas = image.copy()
    unit = max(1, round(min(image.shape[:2]) / 500))
    for index in reversed(range(len(found))):
        x1, y1, x2, y2 = (round(float(v)) for v in found.bboxes[index, :4])
        label, score = int(found.labels[index]), float(found.bboxes[index, 4])
        color = CLASS_COLORS[label % len(CLASS_COLORS)]
        side = min(x2 - x1, y2 - y1)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), INK, unit + 2, cv2.LINE_AA)  # visible on any ground
        cv2.rectangle(canvas, (x1, y1), (x2, y2), color, unit if side < SMALL_FACE else unit + 1, cv2.LINE_AA)
        if found.kps is not None:
            _draw_points(canvas, found.kps[index], max(1, round(side / 40)))
        text = f"{classes[label]} {score:.2f}" if len(classes) > 1 else f"{score:.2f}"
        _draw_label(canvas, text, (x1, y1), x2 - x1, color, unit)
    return canvas


def _draw_points(canvas: np.ndarray, points: np.ndarray, radius: int) -> None:
    for number, (x, y) in enumerate(points.tolist()):
        center = (round(x), round(y))
        if radius > 1:
            cv2.circle(canvas, center, radius + 1, INK, -1, cv2.LINE_AA)
        cv2.circle(canvas, center, radius, POINT_COLORS[number % len(POINT_COLORS)], -1, cv2.LINE_AA)


def _draw_label(
    canvas: np.ndarray, text: str, corner: tuple[int, int], face_width: int, color: tuple, unit: int
) -> None:
    """Write dark text on a patch of the box's colour: above the box, or inside where there is no room."""
    scale = 0.42 * unit
    (width, height), below = cv2.getTextSize(text, FONT, scale, unit)
    pad = 2 * unit
    if width + 2 * pad > WIDEST_LABEL * face_width:
        return
    x, bottom = max(corner[0] - 1, 0), corner[1]
    if bottom - height - below - 2 * pad < 0:
        bottom = corner[1] + height + below + 2 * pad
    top = bottom - height - below - 2 * pad
    cv2.rectangle(canvas, (x, top), (x + width + 2 * pad, bottom), color, -1)
    cv2.putText(canvas, text, (x + pad, bottom - pad - below // 2), FONT, scale, INK, unit, cv2.LINE_AA)
