# With positive anchors that follow the predictions instead of ATSS (mmdet/core/assigners/task_aligned.py).
_base_ = ["scrfd_500m_bnkps.py"]
train_cfg = dict(assigner=dict(_delete_=True, type="TaskAlignedAssigner"))
