# scrfd_500m_bnkps on the drawn data set of tools/make_toy_faces.py: a few CPU minutes, for `make train`.
# Faces are drawn larger than WIDER FACE's, so half the input size and crops close to the image are enough.
_base_ = ["../scrfd/scrfd_500m_bnkps.py"]
_steps = _base_.data.train.pipeline
_crop = dict(type="RandomSquareCrop", crop_choice=[0.5, 0.6, 0.8, 1.0])
_resize = dict(type="Resize", img_scale=(320, 320), keep_ratio=False)
_colors = dict(type="PhotoMetricDistortion")
data = dict(
    samples_per_gpu=8,
    workers_per_gpu=1,
    train=dict(pipeline=[*_steps[:2], _crop, _resize, _steps[4], _colors, *_steps[6:]]),
)
# AdamW: SGD at the recipe's rate is still near AP 0 after the 5,000 images in which AdamW reaches 0.5.
optimizer = dict(_delete_=True, type="AdamW", lr=0.003, weight_decay=0.01)
lr_config = dict(
    _delete_=True, policy="CosineAnnealing", min_lr=3e-5, warmup="linear", warmup_iters=50, warmup_ratio=0.02
)
total_epochs = 26
auto_scale_lr = dict(base_batch_size=8)
checkpoint_config = dict(interval=13, max_keep_ckpts=1)
evaluation = dict(interval=13, start=13)
log_config = dict(interval=50)
