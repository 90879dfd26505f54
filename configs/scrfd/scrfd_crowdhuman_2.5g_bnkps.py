# SCRFD-2.5G for whole persons (CrowdHuman): tall anchors, five levels. The published recipe points
# to label_fullbody.txt in the labelv2 format.
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
        block_cfg=dict(block="BasicBlock", stage_blocks=(3, 5, 3, 2), stage_planes=[24, 48, 48, 80]),
        base_channels=24,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=False,
        style="pytorch",
    ),
    neck=dict(in_channels=[24, 48, 48, 80], out_channels=24, num_outs=5),
    bbox_head=dict(
        in_channels=24,
        feat_channels=64,
        norm_cfg=dict(_delete_=True, type="BN", requires_grad=True),
        strides_share=False,
        use_kps=True,
        anchor_generator=dict(
            ratios=[2.0], scales=[3], base_sizes=[8, 16, 32, 64, 128], strides=[8, 16, 32, 64, 128]
        ),
    ),
)
data_root = "data/crowdhuman/"
_train = dict(ann_file="data/crowdhuman/train/label_fullbody.txt", img_prefix="data/crowdhuman/train/images/")
_val = dict(ann_file="data/crowdhuman/val/label_fullbody.txt", img_prefix="data/crowdhuman/val/images/")
data = dict(train=_train, val=_val, test=_val)
lr_config = dict(warmup_iters=2500, step=[220, 272])
total_epochs = 320
evaluation = dict(interval=40, metric="mAP")
