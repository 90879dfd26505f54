# WIDER FACE with labelv2 labels: data/retinaface/{train,val}/ hold labelv2.txt and images/, val/ also gt/.
# Another place: --cfg-options data_root=/data/WIDERFace (moves every path below).
data_root = "data/retinaface/"
_normalize = dict(type="Normalize", mean=[127.5, 127.5, 127.5], std=[128.0, 128.0, 128.0], to_rgb=True)
_test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="MultiScaleFlipAug",
        img_scale=(640, 640),
        flip=False,
        transforms=[
            dict(type="Resize", keep_ratio=True),
            dict(type="RandomFlip", flip_ratio=0.0),
            _normalize,
            dict(type="Pad", size=(640, 640), pad_val=0),
            dict(type="ImageToTensor", keys=["img"]),
            dict(type="Collect", keys=["img"]),
        ],
    ),
]
_val = dict(
    type="RetinaFaceDataset",
    ann_file="data/retinaface/val/labelv2.txt",
    img_prefix="data/retinaface/val/images/",
    pipeline=_test_pipeline,
)
data = dict(
    samples_per_gpu=8,
    workers_per_gpu=2,
    gt_slots=(32, 64, 128, 256, 512, 1024, 2048),
    train=dict(
        type="RetinaFaceDataset",
        ann_file="data/retinaface/train/labelv2.txt",
        img_prefix="data/retinaface/train/images/",
        pipeline=[
            dict(type="LoadImageFromFile", to_float32=True),
            dict(type="LoadAnnotations", with_bbox=True, with_keypoints=True),
            dict(type="RandomSquareCrop", crop_choice=[0.3, 0.45, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0]),
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
            dict(type="DefaultFormatBundle"),
            dict(
                type="Collect",
                keys=["img", "gt_bboxes", "gt_labels", "gt_bboxes_ignore", "gt_keypointss"],
            ),
        ],
    ),
    val=_val,
    test=_val,
)
