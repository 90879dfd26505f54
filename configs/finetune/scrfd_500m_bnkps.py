# Fine-tune the published SCRFD_500M_KPS weights on a few hundred photographs, on a CPU in minutes:
#   python tools/train.py configs/finetune/scrfd_500m_bnkps.py --data-root data/own --load-from WEIGHTS.pth
# About 2,200 images are seen: 20 epochs of 100 photographs; with N, --epochs 2200/N (docs/data.md has a
# table of what came out). Training sees squares of 320 px, where faces are as large as when whole
# photographs are fitted into 640 px, as evaluation and detection do.
_base_ = ["../scrfd/scrfd_500m_bnkps.py"]
_steps = _base_.data.train.pipeline
_crop = dict(type="RandomSquareCrop", crop_choice=[0.4, 0.6, 0.8, 1.0])
_resize = dict(type="Resize", img_scale=(320, 320), keep_ratio=False)
data = dict(
    samples_per_gpu=16,
    workers_per_gpu=1,
    train=dict(pipeline=[*_steps[:2], _crop, _resize, *_steps[4:]]),
)
optimizer = dict(_delete_=True, type="AdamW", lr=0.001, weight_decay=0.01)
lr_config = dict(_delete_=True, policy="auto")
auto_scale_lr = dict(base_batch_size=16)
total_epochs = 20
checkpoint_config = dict(_delete_=True, max_keep_ckpts=1)
evaluation = dict(_delete_=True, metric="widerface")
