"""The reference's way to run a detector, one picture at a time, as the baseline of `benchmark.py infer`.

Written from the description of its runtime class; the steps and their order are its own.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np


class OneByOne:
    """Read, letterbox, blobFromImage, run, decode level by level, sort, suppress.

    Args:
        session: an onnxruntime session with 6 or 9 outputs.
        input_size: width and height.
    """

    def __init__(self, session: Any, input_size: tuple[int, int] = (640, 640)) -> None:
        self.session, self.input_size = session, input_size
        self.input_name = session.get_inputs()[0].name
        self.output_names = [output.name for output in session.get_outputs()]
        self.strides, self.num_anchors = (8, 16, 32), 2
        self.use_kps = len(self.output_names) == 9
        self.centers: dict[tuple[int, int, int], np.ndarray] = {}

    def detect_file(self, path: Path, thresh: float = 0.5, nms_thresh: float = 0.4) -> np.ndarray:
        """Return (n, 5) boxes and scores of a picture file."""
        image = cv2.imread(str(path))
        ratio, (width, height) = image.shape[0] / image.shape[1], self.input_size
        if ratio > height / width:
            new_height, new_width = height, int(height / ratio)
        else:
            new_height, new_width = int(width * ratio), width
        scale = new_height / image.shape[0]
        canvas = np.zeros((height, width, 3), np.uint8)
        canvas[:new_height, :new_width] = cv2.resize(image, (new_width, new_height))
        blob = cv2.dnn.blobFromImage(canvas, 1 / 128, self.input_size, (127.5, 127.5, 127.5), swapRB=True)
        outputs = self.session.run(self.output_names, {self.input_name: blob})
        outputs = [out[0] if out.ndim == 3 else out for out in outputs]
        rows = []
        for index, stride in enumerate(self.strides):
            scores, distances = outputs[index], outputs[index + 3] * stride
            centers = self._centers(height // stride, width // stride, stride)
            chosen = np.where(scores[:, 0] >= thresh)[0]
            boxes = np.concatenate((centers - distances[:, :2], centers + distances[:, 2:]), axis=1)
            if self.use_kps:
                points = outputs[index + 6].reshape(-1, 5, 2) * stride + centers[:, None]
                points[chosen] / scale
            rows.append(np.hstack((boxes[chosen] / scale, scores[chosen])))
        found = np.vstack(rows)
        found = found[found[:, 4].argsort()[::-1]]
        return found[_nms(found, nms_thresh)]

    def _centers(self, height: int, width: int, stride: int) -> np.ndarray:
        key = (height, width, stride)
        if key not in self.centers:
            grid = np.stack(np.mgrid[:height, :width][::-1], axis=-1).astype(np.float32) * stride
            self.centers[key] = np.repeat(grid.reshape(-1, 2), self.num_anchors, axis=0)
        return self.centers[key]


def _nms(found: np.ndarray, thresh: float) -> list[int]:
    x1, y1, x2, y2 = found[:, :4].T
    areas = (x2 - x1 + 1) * (y2 - y1 + 1)
    order, keep = np.arange(len(found)), []
    while order.size:
        first, rest = order[0], order[1:]
        keep.append(first)
        width = np.maximum(0, np.minimum(x2[first], x2[rest]) - np.maximum(x1[first], x1[rest]) + 1)
        height = np.maximum(0, np.minimum(y2[first], y2[rest]) - np.maximum(y1[first], y1[rest]) + 1)
        overlap = width * height / (areas[first] + areas[rest] - width * height)
        order = rest[overlap <= thresh]
    return keep
