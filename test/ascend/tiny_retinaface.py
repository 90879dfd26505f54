# As tiny.py, for RetinaFace with the quarter-width MobileNet.
_base_ = ["tiny.py"]
model = dict(
    _delete_=True,
    type="RetinaFace",
    backbone=dict(type="MobileNet025"),
    neck=dict(type="SSHFPN", in_channels=[64, 128, 256], out_channels=64),
    bbox_head=dict(
        type="RetinaFaceHead",
        in_channels=64,
        use_kps=True,
        anchor_generator=dict(
            type="PriorGenerator", strides=[8, 16, 32], min_sizes=[[16, 32], [64, 128], [256, 512]]
        ),
        loss_bbox=dict(type="SmoothL1Loss", loss_weight=2.0),
        loss_kps=dict(type="SmoothL1Loss"),
    ),
)
train_cfg = dict(_delete_=True, assigner=dict(type="MultiBoxAssigner"))
