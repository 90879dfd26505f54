"""How good a detector is: the WIDER FACE protocol, mAP on labelled images, and the files they leave.

Read `widerface/files` (ground truth and prediction files), `widerface/ap` (easy, medium, hard AP),
`widerface/from_labels` and `widerface/mat` (ground truth of any label file), `voc_map` (mAP through
pycocotools), `metrics` (the table METRICS that configs name), `predict` (a model over a data set, each rank
its share), `run` (all of it, for tools/test_widerface.py), `widerface/curves` (the PNG).
"""

from mmdet.evaluation.widerface.ap import WiderResult, evaluate_widerface, wider_evaluation
from mmdet.evaluation.widerface.files import read_predictions, read_wider_gt, write_predictions

__all__ = [
    "WiderResult",
    "evaluate_widerface",
    "read_predictions",
    "read_wider_gt",
    "wider_evaluation",
    "write_predictions",
]
