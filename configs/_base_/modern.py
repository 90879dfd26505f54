# What the recipes of configs/recipes add to a published model. Names with an underscore are for the file that
# has this one as a base, beside the model's. Pixels stay 8-bit until the crop has made them few.
_modern_crop = dict(
    type="RandomAffine",
    img_scale=(640, 640),
    crop_ratio_range=(0.25, 2.5),
    degrees=10.0,
    face_px=(8, 256),
    face_prob=0.5,
    bbox_clip_border=False,
)
_modern_steps = [
    dict(type="RandomFlip", flip_ratio=0.5),
    dict(type="LoadImageFromFile", to_float32=True),
    dict(type="PhotoMetricDistortion"),
    dict(type="Normalize", mean=[127.5, 127.5, 127.5], std=[128.0, 128.0, 128.0], to_rgb=True),
]
_modern_labels = dict(type="LoadAnnotations", with_bbox=True, with_keypoints=True)
_modern_train = dict(
    pipeline=[_modern_labels, dict(type="Mosaic", prob=1.0, transforms=[_modern_crop]), *_modern_steps],
    closing_pipeline=[_modern_labels, dict(_modern_crop, degrees=0.0), *_modern_steps],
    closing_share=0.15,
)
_modern_optimizer = dict(_delete_=True, type="AdamW", lr=0.004, weight_decay=0.01)
ema = dict(momentum=0.0002, warm_up=20)  # averages the last twentieth of any run
