"""Assigners decide which anchors learn which face: `ASSIGNERS`, by the name in `train_cfg.assigner.type`.

Read base.py (how an assigner is called), then atss.py with unassigned.py and ignored.py, task_aligned.py,
multibox.py with window.py.
"""

from collections.abc import Callable

from mmdet.core.assigners.atss import ATSSAssigner
from mmdet.core.assigners.base import AssignAhead, Assigner, assign_ahead, assignment_of
from mmdet.core.assigners.multibox import MultiBoxAssigner
from mmdet.core.assigners.task_aligned import TaskAlignedAssigner

ASSIGNERS: dict[str, Callable[..., Assigner]] = {
    "ATSSAssigner": ATSSAssigner,
    "MultiBoxAssigner": MultiBoxAssigner,
    "TaskAlignedAssigner": TaskAlignedAssigner,
}

__all__ = [
    "ASSIGNERS",
    "ATSSAssigner",
    "Assigner",
    "MultiBoxAssigner",
    "TaskAlignedAssigner",
    "AssignAhead",
    "assign_ahead",
    "assignment_of",
]
