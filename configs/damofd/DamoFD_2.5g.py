# DamoFD-2.5G: 2.5GFLOPs at 640x480, boxes only. The structure is the published one.
_base_ = [
    "../_base_/widerface_640_unclipped.py",
    "../_base_/schedule_640e.py",
    "../_base_/runtime.py",
    "../_base_/scrfd.py",
]
model = dict(
    backbone=dict(
        type="MasterNet",
        plainnet_struct=(
            "SuperConvK3BNRELU(3,24,2,2)"
            "SuperResK3K3(24,32,2,24,4)"
            "SuperResK3K3(32,56,2,16,4)"
            "SuperResK5K5(56,88,2,8,5)"
            "SuperResK1K5K1(88,128,2,8,4)"
        ),
    ),
    neck=dict(in_channels=[32, 56, 88, 128], out_channels=24),
    bbox_head=dict(in_channels=24, feat_channels=64),
)
data = dict(workers_per_gpu=4)
