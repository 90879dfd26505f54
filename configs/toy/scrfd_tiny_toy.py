# Template of the small search in docs/search.md: ResNetV1e, 0.1 GFLOPs at 640x480, boxes only, CPU minutes.
_base_ = ["scrfd_500m_bnkps_toy.py"]
model = dict(
    backbone=dict(
        _delete_=True,
        type="ResNetV1e",
        depth=0,
        block_cfg=dict(block="BasicBlock", stage_blocks=[1, 1, 1, 1], stage_planes=[8, 8, 16, 24]),
        base_channels=8,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=False,
    ),
    neck=dict(in_channels=[8, 8, 16, 24], out_channels=8),
    bbox_head=dict(in_channels=8, feat_channels=16, stacked_convs=1, use_kps=False),
)
