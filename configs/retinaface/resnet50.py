# RetinaFace with ResNet-50, as ternaus/retinaface trains it (its 2020-07-20): 840 px, RGB pixels, cosine with
# warm restarts, on 4 devices. For JSON labels add --cfg-options data.train.label_format=ternaus-json
# data.train.ann_file=label.json. ImageNet weights of the body: --cfg-options model.pretrained=resnet50.pth, a
# file with torchvision's keys.
_base_ = ["../_base_/retinaface.py", "../_base_/runtime.py"]
model = dict(
    backbone=dict(type="ResNet50"),
    neck=dict(in_channels=[512, 1024, 2048], out_channels=256),
    bbox_head=dict(in_channels=256),
)
_normalize = dict(type="Normalize", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
_test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="MultiScaleFlipAug",
        img_scale=(840, 840),
        flip=False,
        transforms=[
            dict(type="Resize", keep_ratio=True),
            _normalize,
            dict(type="Pad", size_divisor=1),  # none: the network takes any size
        ],
    ),
]
data = dict(
    samples_per_gpu=8,
    train=dict(
        filter_empty_gt=False,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True, with_keypoints=True),
            dict(type="ClipLabels"),
            dict(type="RandomRotate90"),
            dict(type="RetinaFaceCrop", crop_choice=[0.3, 0.45, 0.6, 0.8, 1.0]),
            dict(type="PadToSquare", pad_val=0),
            dict(type="RandomFlip", flip_ratio=0.5),
            dict(type="RandomBrightnessContrast", brightness_limit=0.2, contrast_limit=[0.5, 1.5], p=0.5),
            dict(type="HueSaturationValue", hue_shift_limit=20, sat_shift_limit=30, val_shift_limit=0, p=0.5),
            dict(type="RandomGamma", gamma_limit=[80, 120], p=0.5),
            dict(type="Resize", img_scale=(840, 840), keep_ratio=False),
            _normalize,
        ],
    ),
    val=dict(pipeline=_test_pipeline),
    test=dict(pipeline=_test_pipeline),
)
optimizer = dict(type="SGD", lr=0.001, momentum=0.9, weight_decay=0.0001)
lr_config = dict(policy="CosineRestarts", T_0=10, T_mult=2)
sync_bn = True
amp = dict(level="O1", loss_scale="dynamic")
total_epochs = 150
