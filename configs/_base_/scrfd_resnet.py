# SCRFD on a ResNet. A model's own file adds depth or blocks, and the widths.
_base_ = ["scrfd.py"]
model = dict(
    backbone=dict(
        type="ResNetV1e",
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=False,
        style="pytorch",
    ),
)
