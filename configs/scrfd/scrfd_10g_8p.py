# SCRFD-10G, the recipe for 8 Ascend devices: 256 images per step, half precision (O2). Colours are changed on
# the device: a worker makes twice the images, and a step sends 39 MB instead of 157. Pixels are rounded
# (docs/data.md).
_base_ = ["scrfd_10g.py"]
data = dict(samples_per_gpu=32, device_augment=True)
optimizer = dict(lr=0.06)
auto_scale_lr = dict(base_batch_size=256)
amp = dict(level="O2", loss_scale=128.0)
log_config = dict(interval=10)
