# SCRFD-1.3G: 1.3 GFLOPs at 640x480, boxes only.
_base_ = [
    "../_base_/widerface_640_unclipped.py",
    "../_base_/schedule_640e.py",
    "../_base_/runtime.py",
    "../_base_/scrfd_resnet.py",
]
model = dict(
    backbone=dict(
        depth=0,
        block_cfg=dict(block="BasicBlock", stage_blocks=(3, 5, 3, 2), stage_planes=[16, 32, 40, 72]),
        base_channels=16,
    ),
    neck=dict(in_channels=[16, 32, 40, 72], out_channels=24),
    bbox_head=dict(in_channels=24, feat_channels=48),
)
