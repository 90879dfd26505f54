"""How good a detector is: the WIDER FACE protocol, mAP on one's own labels, and the files they leave.

Read `wider_files` (ground truth and prediction files), then `widerface` (easy / medium / hard AP), `voc_map`
(mAP through pycocotools), `predict` (a model over a data set, every rank its share), `report` (figures and
their files), `curves` (the PNG), `run` (all of it, for tools/test_widerface.py). `wider_mat` makes ground
truth from a label file.
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
