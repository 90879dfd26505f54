# The recipe on the whole of WIDER FACE with 8 cards: 256 images per step, half precision (O2), colours on the
# device. Its cost is calculated in docs/recipes.md; NOT YET RUN.
_base_ = ["scrfd_500m_bnkps.py"]
data = dict(samples_per_gpu=32, workers_per_gpu=8, device_augment=True)
optimizer = dict(lr=0.004)
auto_scale_lr = dict(base_batch_size=256)
amp = dict(level="O2", loss_scale=128.0)
