# DamoFD-34G: 34GFLOPs at 640x480, boxes only. The structure is the published one.
_base_ = [
    "../_base_/widerface_640.py",
    "../_base_/schedule_640e.py",
    "../_base_/runtime.py",
    "../_base_/scrfd.py",
]
model = dict(
    backbone=dict(
        type="MasterNet",
        plainnet_struct=(
            "SuperConvK3BNRELU(3,56,2,2)"
            "SuperResK1K3K1(56,224,2,80,5)"
            "SuperResK1K3K1(224,488,2,40,6)"
            "SuperResK1K3K1(488,624,2,72,4)"
            "SuperResK1K7K1(624,816,2,24,3)"
        ),
    ),
    # The first entry is unused; 192 as published, really 224.
    neck=dict(in_channels=[192, 488, 624, 816], out_channels=128),
    bbox_head=dict(in_channels=128, feat_channels=256, norm_cfg=dict(num_groups=32)),
)
data = dict(workers_per_gpu=3)
optimizer = dict(lr=0.02)
