# RetinaFace with the quarter-width MobileNet, as biubug6/Pytorch_Retinaface trains it: 640 px, BGR pixels.
# ImageNet weights of the body: --cfg-options model.pretrained=mobilenetV1X0.25_pretrain.tar
_base_ = ["../_base_/retinaface.py", "../_base_/runtime.py"]
model = dict(
    backbone=dict(type="MobileNet025"),
    neck=dict(in_channels=[64, 128, 256], out_channels=64),
    bbox_head=dict(in_channels=64),
)
_normalize = dict(type="Normalize", mean=[104, 117, 123], std=[1, 1, 1], to_rgb=False)
_test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="MultiScaleFlipAug",
        img_scale=(640, 640),
        flip=False,
        transforms=[
            dict(type="Resize", keep_ratio=True),
            _normalize,
            dict(type="Pad", size_divisor=1),  # none: the network takes any size
        ],
    ),
]
data = dict(
    samples_per_gpu=32,
    train=dict(
        pipeline=[
            dict(type="LoadImageFromFile", to_float32=True),
            dict(type="LoadAnnotations", with_bbox=True, with_keypoints=True),
            dict(type="RetinaFaceCrop", crop_choice=[0.3, 0.45, 0.6, 0.8, 1.0]),
            dict(type="PadToSquare", pad_val=[104, 117, 123]),
            dict(type="Resize", img_scale=(640, 640), keep_ratio=False),
            dict(type="RandomFlip", flip_ratio=0.5),
            dict(
                type="PhotoMetricDistortion",
                brightness_delta=32,
                contrast_range=(0.5, 1.5),
                saturation_range=(0.5, 1.5),
                hue_delta=18,
            ),
            _normalize,
        ],
    ),
    val=dict(pipeline=_test_pipeline),
    test=dict(pipeline=_test_pipeline),
)
optimizer = dict(type="SGD", lr=0.001, momentum=0.9, weight_decay=0.0005)
lr_config = dict(policy="step", step=[190, 220])
total_epochs = 250
