# SCRFD-10G: 10 GFLOPs at 640x480, boxes only.
_base_ = [
    "../_base_/widerface_640_unclipped.py",
    "../_base_/schedule_640e.py",
    "../_base_/runtime.py",
    "../_base_/scrfd_resnet.py",
]
model = dict(
    backbone=dict(
        depth=0,
        block_cfg=dict(block="BasicBlock", stage_blocks=(3, 4, 2, 3), stage_planes=[56, 88, 88, 224]),
        base_channels=56,
    ),
    neck=dict(in_channels=[56, 88, 88, 224], out_channels=56),
    bbox_head=dict(in_channels=56, feat_channels=80, stacked_convs=3),
)
data = dict(workers_per_gpu=3)
