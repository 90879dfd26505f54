"""How good a detector is: the WIDER FACE protocol, mAP on one's own labels, and the files they leave.

Read `wider_files` (ground truth and prediction files), then `widerface` (easy / medium / hard AP), `voc_map`
(mAP through pycocotools), `curves` (the PNG of precision against recall), `predict` (a model over a data set,
all ranks), `report` (what tools/test_widerface.py writes).
"""

from mmdet.evaluation.wider_files import read_predictions, read_wider_gt, write_predictions
from mmdet.evaluation.widerface import WiderResult, evaluate_widerface, wider_evaluation

__all__ = [
    "WiderResult",
    "evaluate_widerface",
    "read_predictions",
    "read_wider_gt",
    "wider_evaluation",
    "write_predictions",
]
