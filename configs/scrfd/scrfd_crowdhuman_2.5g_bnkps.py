# SCRFD-2.5G for whole persons (CrowdHuman): tall anchors, five levels. The published recipe points
# to label_fullbody.txt in the labelv2 format.
_base_ = ["scrfd_2.5g_bnkps.py"]
model = dict(
    neck=dict(num_outs=5),
    bbox_head=dict(
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
