# The smallest training run that goes through everything: 64 px, two images per card, a few iterations.
_base_ = ["../../configs/toy/scrfd_500m_bnkps_toy.py"]
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=0,
    train=dict(
        pipeline=[
            dict(type="LoadImageFromFile", to_float32=True),
            dict(type="LoadAnnotations", with_bbox=True, with_keypoints=True),
            dict(type="RandomSquareCrop", crop_choice=[0.6, 0.8, 1.0]),
            dict(type="Resize", img_scale=(64, 64), keep_ratio=False),
            dict(type="RandomFlip", flip_ratio=0.5),
            dict(type="Normalize", mean=[127.5, 127.5, 127.5], std=[128.0, 128.0, 128.0], to_rgb=True),
            dict(type="DefaultFormatBundle"),
            dict(
                type="Collect",
                keys=["img", "gt_bboxes", "gt_labels", "gt_bboxes_ignore", "gt_keypointss"],
            ),
        ],
    ),
)
optimizer = dict(lr=0.005)
lr_config = dict(warmup_iters=2)
total_epochs = 1
checkpoint_config = dict(interval=1, max_keep_ckpts=1)
evaluation = dict(interval=1)
log_config = dict(interval=1)
visualize = dict(plots=False, batches=0, detections=0)
speed = dict(channels_last=False)  # as on a card: another order in memory is another rounding
