# DamoFD-10G: 10GFLOPs at 640x480, boxes only. The structure is the published one.
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
            "SuperConvK3BNRELU(3,56,2,2)"
            "SuperResK1K3K1(56,80,2,40,5)"
            "SuperResK1K5K1(80,112,2,32,5)"
            "SuperResK1K3K1(112,168,2,16,4)"
            "SuperResK7K7(168,256,2,8,1)"
        ),
    ),
    neck=dict(in_channels=[80, 112, 168, 256], out_channels=56),
    bbox_head=dict(in_channels=56, feat_channels=80, stacked_convs=3),
)
data = dict(workers_per_gpu=3)
