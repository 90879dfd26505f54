# SCRFD-500M: 0.5 GFLOPs at 640x480, boxes only.
_base_ = [
    "../_base_/widerface_640.py",
    "../_base_/schedule_640e.py",
    "../_base_/runtime.py",
    "../_base_/scrfd.py",
]
model = dict(
    backbone=dict(
        type="MobileNetV1",
        block_cfg=dict(stage_blocks=[2, 3, 2, 6], stage_planes=[16, 16, 40, 72, 152, 288]),
    ),
    neck=dict(in_channels=[40, 72, 152, 288], out_channels=16),
    bbox_head=dict(in_channels=16, feat_channels=64, dw_conv=True),
)
data = dict(workers_per_gpu=3)
