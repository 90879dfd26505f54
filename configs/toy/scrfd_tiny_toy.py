# Template of the small search in docs/search.md: MobileNetV1, under 0.1 GFLOPs at 640x480, boxes only.
# Learns in CPU minutes from some thousand photographs of 400 px: patches of 192 px, AdamW, averaged weights.
_base_ = ["scrfd_500m_bnkps_toy.py"]
_steps = _base_.data.train.pipeline
_crop = dict(type="RandomSquareCrop", crop_choice=[0.4, 0.5, 0.6, 0.8])
_resize = dict(type="Resize", img_scale=(192, 192), keep_ratio=False)
model = dict(
    backbone=dict(block_cfg=dict(stage_blocks=[1, 2, 2, 2], stage_planes=[8, 8, 16, 24, 40, 64])),
    neck=dict(in_channels=[16, 24, 40, 64], out_channels=16),
    bbox_head=dict(
        in_channels=16, feat_channels=24, stacked_convs=1, use_kps=False, loss_cls=dict(loss_weight=5.0)
    ),
)
data = dict(
    samples_per_gpu=16,
    workers_per_gpu=0,
    val_samples_per_gpu=4,
    train=dict(
        cache_dir="work_dirs/cache",
        cache_gib=4.0,
        pipeline=[*_steps[:2], _crop, _resize, _steps[4], *_steps[6:]],
    ),
)
optimizer = dict(lr=0.005)
lr_config = dict(_delete_=True, policy="auto")
auto_scale_lr = dict(base_batch_size=16)
ema = dict(momentum=0.002)
test_cfg = dict(nms_pre=500)
