# Template of the small search in docs/search.md: MobileNetV1, 0.07 GFLOPs at 640x480, boxes only, for CPUs.
_base_ = ["scrfd_500m_bnkps_toy.py"]
model = dict(
    backbone=dict(block_cfg=dict(stage_blocks=[1, 2, 2, 2], stage_planes=[8, 8, 16, 24, 40, 64])),
    neck=dict(in_channels=[16, 24, 40, 64], out_channels=8),
    bbox_head=dict(in_channels=8, feat_channels=16, stacked_convs=1, use_kps=False),
)
