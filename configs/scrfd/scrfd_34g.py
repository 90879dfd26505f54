# SCRFD-34G: 34 GFLOPs at 640x480, boxes only.
_base_ = [
    "../_base_/widerface_640.py",
    "../_base_/schedule_640e.py",
    "../_base_/runtime.py",
    "../_base_/scrfd_resnet.py",
]
model = dict(
    backbone=dict(
        depth=0,
        block_cfg=dict(block="Bottleneck", stage_blocks=(17, 16, 2, 8), stage_planes=[56, 56, 144, 184]),
        base_channels=56,
    ),
    neck=dict(in_channels=[224, 224, 576, 736], out_channels=128),
    bbox_head=dict(in_channels=128, feat_channels=256, norm_cfg=dict(num_groups=32)),
)
data = dict(workers_per_gpu=3)
optimizer = dict(lr=0.02)
