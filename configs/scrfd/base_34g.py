# The 34 GFLOPs model before the search: a ResNet-50 with more blocks (depth 56), 400 epochs.
_base_ = [
    "../_base_/widerface_640.py",
    "../_base_/schedule_640e.py",
    "../_base_/runtime.py",
    "../_base_/scrfd_resnet.py",
]
model = dict(
    backbone=dict(depth=56, base_channels=64),
    # in_channels[0] is not used (start_level=1); the backbone gives 256 there.
    neck=dict(in_channels=[64, 512, 1024, 2048], out_channels=128),
    bbox_head=dict(in_channels=128, feat_channels=256, norm_cfg=dict(num_groups=32)),
)
optimizer = dict(lr=0.02)
lr_config = dict(step=[275, 340])
total_epochs = 400
