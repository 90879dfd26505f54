# scrfd_500m_bnkps on the drawn data set of tools/make_toy_faces.py: a few CPU minutes, for `make train`.
# Faces are drawn larger than WIDER FACE's, so half the input size and crops close to the image are enough.
_base_ = ["../scrfd/scrfd_500m_bnkps.py"]
data_root = "data/retinaface/"
data = dict(
    samples_per_gpu=16,
    workers_per_gpu=1,
    train=dict(
        pipeline=[
            dict(type="LoadImageFromFile", to_float32=True),
            dict(type="LoadAnnotations", with_bbox=True, with_keypoints=True),
            dict(type="RandomSquareCrop", crop_choice=[0.5, 0.6, 0.8, 1.0]),
            dict(type="Resize", img_scale=(320, 320), keep_ratio=False),
            dict(type="RandomFlip", flip_ratio=0.5),
            dict(type="PhotoMetricDistortion"),
            dict(type="Normalize", mean=[127.5, 127.5, 127.5], std=[128.0, 128.0, 128.0], to_rgb=True),
            dict(type="DefaultFormatBundle"),
            dict(
                type="Collect",
                keys=["img", "gt_bboxes", "gt_labels", "gt_bboxes_ignore", "gt_keypointss"],
            ),
        ],
    ),
)
optimizer = dict(lr=0.02)
lr_config = dict(warmup_iters=50, step=[20, 25])
total_epochs = 28
auto_scale_lr = dict(base_batch_size=16)
checkpoint_config = dict(interval=7, max_keep_ckpts=1)
evaluation = dict(interval=14)
log_config = dict(interval=25)
