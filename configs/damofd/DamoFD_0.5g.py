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
data = dict(
    workers_per_gpu=3,
    train=dict(
        pipeline=[
            dict(type="LoadImageFromFile", to_float32=True),
            dict(type="LoadAnnotations", with_bbox=True, with_keypoints=True),
            dict(type="RandomSquareCrop", crop_choice=[1.0, 1.2, 1.4, 1.6, 1.8, 2.0]),
            dict(type="Resize", img_scale=(640, 640), keep_ratio=False),
            dict(type="RandomFlip", flip_ratio=0.5),
            dict(type="PhotoMetricDistortion", brightness_delta=32, contrast_range=(0.5, 1.5),
                 saturation_range=(0.5, 1.5), hue_delta=18),
            dict(type="Normalize", mean=[127.5, 127.5, 127.5], std=[128.0, 128.0, 128.0], to_rgb=True),
            dict(type="DefaultFormatBundle"),
            dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels", "gt_bboxes_ignore", "gt_keypointss"]),
        ],
    ),
)  # fmt: skip
lr_config = dict(warmup_iters=5000)
