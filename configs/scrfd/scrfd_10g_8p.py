# SCRFD-10G, the recipe for 8 Ascend devices: 256 images per step, half precision (O2).
_base_ = ["scrfd_10g.py"]
data = dict(samples_per_gpu=32)
optimizer = dict(lr=0.06)
auto_scale_lr = dict(base_batch_size=256)
amp = dict(level="O2", loss_scale=128.0)
log_config = dict(interval=10)
