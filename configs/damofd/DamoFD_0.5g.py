# DamoFD-0.5G: 0.5GFLOPs at 640x480, boxes only. The structure is the published one.
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
            "SuperConvK3BNRELU(3,32,2,1)"
            "SuperResIDWE1K3(32,32,2,8,1)"
            "SuperResIDWE1K7(32,64,2,40,1)"
            "SuperResIDWE1K7(64,120,2,40,2)"
            "SuperResIDWE1K5(120,160,2,120,1)"
        ),
    ),
    neck=dict(in_channels=[32, 64, 120, 160], out_channels=16),
    bbox_head=dict(in_channels=16, feat_channels=64, dw_conv=True),
)
# A small network: crops close to the whole image or beyond it, and a longer warm-up.
_steps = _base_.data.train.pipeline
_crop = dict(type="RandomSquareCrop", crop_choice=[1.0, 1.2, 1.4, 1.6, 1.8, 2.0])
data = dict(workers_per_gpu=3, train=dict(pipeline=[*_steps[:2], _crop, *_steps[3:]]))
lr_config = dict(warmup_iters=5000)
