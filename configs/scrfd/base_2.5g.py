# The 2.5 GFLOPs model before the search: a narrow ResNet-34.
_base_ = [
    "../_base_/widerface_640.py",
    "../_base_/schedule_640e.py",
    "../_base_/runtime.py",
    "../_base_/scrfd.py",
]
model = dict(
    backbone=dict(
        type="ResNetV1e",
        depth=34,
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
optimizer = dict(lr=0.02)
