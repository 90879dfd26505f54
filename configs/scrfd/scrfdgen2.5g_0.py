# One candidate of the 2.5 GFLOPs search: 80 epochs, enough to rank it.
_base_ = [
    "../_base_/widerface_640.py",
    "../_base_/schedule_640e.py",
    "../_base_/runtime.py",
    "../_base_/scrfd_resnet.py",
]
model = dict(
    backbone=dict(
        depth=0,
        block_cfg=dict(block="BasicBlock", stage_blocks=(3, 4, 6, 3), stage_planes=[16, 32, 64, 128]),
        base_channels=16,
    ),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=48),
    bbox_head=dict(in_channels=48, feat_channels=96),
)
lr_config = dict(step=[55, 68])
total_epochs = 80
