# SCRFD-1G: 1 GFLOPs at 640x480, boxes only.
_base_ = [
    "../_base_/widerface_640.py",
    "../_base_/schedule_640e.py",
    "../_base_/runtime.py",
    "../_base_/scrfd.py",
]
model = dict(
    backbone=dict(
        type="MobileNetV1",
        block_cfg=dict(stage_blocks=[3, 2, 1, 5], stage_planes=[32, 48, 48, 160, 216, 312]),
    ),
    neck=dict(in_channels=[48, 160, 216, 312], out_channels=24),
    bbox_head=dict(in_channels=24, feat_channels=96, dw_conv=True, norm_cfg=dict(num_groups=8)),
)
evaluation = dict(interval=160)
