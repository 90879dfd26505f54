"""Detectors, backbone, neck and head in a row: `DETECTORS`, by the name in `model.type`. Read dense.py,
then retinaface.py.

A detector is called as `model(images) -> Outputs`. Evaluation, post-processing and export use no more of it
than `anchor_generator`, `coder`, `scores(outputs)` and, per level, `levels(images)`.
"""

from typing import Any

from mmdet.models.detectors.dense import SCRFD
from mmdet.models.detectors.retinaface import RetinaFace

DETECTORS: dict[str, Any] = {"SCRFD": SCRFD, "RetinaFace": RetinaFace}
