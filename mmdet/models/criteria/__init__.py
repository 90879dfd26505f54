"""Criteria, outputs and faces to losses: `CRITERIA`, by the name in `model.criterion.type`.

A detector names the criterion that trains it by default (`SCRFD.default_criterion`). Read
scrfd.py, then multibox.py, distill.py.
"""

from typing import Any

from mmdet.models.criteria.distill import DistillCriterion
from mmdet.models.criteria.multibox import MultiBoxCriterion
from mmdet.models.criteria.scrfd import SCRFDCriterion

CRITERIA: dict[str, Any] = {
    "SCRFDCriterion": SCRFDCriterion,
    "MultiBoxCriterion": MultiBoxCriterion,
    "DistillCriterion": DistillCriterion,
}
