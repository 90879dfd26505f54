# SCRFD-10G, the recipe for 8 Ascend devices: 256 images per step, half precision (O2).
_base_ = [
    "../_base_/widerface_640_unclipped.py",
    "../_base_/schedule_640e.py",
    "../_base_/runtime.py",
    "../_base_/scrfd.py",
]
model = dict(
    backbone=dict(
        type="ResNetV1e",
        depth=0,
        block_cfg=dict(block="BasicBlock", stage_blocks=(3, 4, 2, 3), stage_planes=[56, 88, 88, 224]),
        base_channels=56,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=False,
        style="pytorch",
    ),
    neck=dict(in_channels=[56, 88, 88, 224], out_channels=56),
    bbox_head=dict(in_channels=56, feat_channels=80, stacked_convs=3),
)
data = dict(samples_per_gpu=32, workers_per_gpu=3)
optimizer = dict(lr=0.06)
auto_scale_lr = dict(base_batch_size=256)
amp = dict(level="O2", loss_scale=128.0)
log_config = dict(interval=10)
