# One candidate of the 2.5 GFLOPs search: 80 epochs, enough to rank it.
_base_ = [
    "../_base_/widerface_640.py",
    "../_base_/schedule_640e.py",
    "../_base_/runtime.py",
    "../_base_/scrfd.py",
]
model = dict(
    backbone=dict(
        type="ResNetV1e",
        depth=0,
        block_cfg=dict(block="BasicBlock", stage_blocks=(3, 4, 6, 3), stage_planes=[16, 32, 64, 128]),
        base_channels=16,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=False,
        style="pytorch",
    ),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=48),
    bbox_head=dict(in_channels=48, feat_channels=96),
)
lr_config = dict(step=[55, 68])
total_epochs = 80
