# The 1 GFLOPs model before the search: plain MobileNet stages.
_base_ = [
    "../_base_/widerface_640.py",
    "../_base_/schedule_640e.py",
    "../_base_/runtime.py",
    "../_base_/scrfd.py",
]
model = dict(
    backbone=dict(
        type="MobileNetV1",
        block_cfg=dict(stage_blocks=[3, 3, 7, 3], stage_planes=[16, 16, 32, 64, 128, 256]),
    ),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    bbox_head=dict(in_channels=64, feat_channels=128, dw_conv=True),
)
