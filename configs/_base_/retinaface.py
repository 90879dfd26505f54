# What the RetinaFace models share. A model's own file adds the body and the widths.
model = dict(
    type="RetinaFace",
    neck=dict(type="SSHFPN"),
    bbox_head=dict(
        type="RetinaFaceHead",
        use_kps=True,
        anchor_generator=dict(
            type="PriorGenerator", strides=[8, 16, 32], min_sizes=[[16, 32], [64, 128], [256, 512]]
        ),
        bbox_coder=dict(type="PriorCoder", variances=(0.1, 0.2)),
        loss_bbox=dict(type="SmoothL1Loss", beta=1.0, loss_weight=2.0),
        loss_kps=dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0),
    ),
    criterion=dict(type="MultiBoxCriterion", neg_pos_ratio=7, cls_weight=1.0),
)
train_cfg = dict(assigner=dict(type="MultiBoxAssigner", pos_iou_thr=0.35, min_pos_iou=0.2))
# As the original's own evaluation: widths counted as x2 - x1 + 1 in NMS, boxes not cut at the image's border.
test_cfg = dict(
    score_thr=0.02, nms=dict(type="nms", iou_threshold=0.4, offset=1), max_per_img=-1, clip_border=False
)
# WIDER FACE with labelv2 labels: data/retinaface/{train,val}/ hold labelv2.txt and images/, val/ also gt/
# (docs/data.md). A model's own file adds size and pixels: the steps img_scale and Normalize of the pipelines.
data_root = "data/retinaface/"
_val = dict(
    type="FacesDataset",
    ann_file="data/retinaface/val/labelv2.txt",
    img_prefix="data/retinaface/val/images/",
)
data = dict(
    workers_per_gpu=4,
    train=dict(
        type="FacesDataset",
        ann_file="data/retinaface/train/labelv2.txt",
        img_prefix="data/retinaface/train/images/",
    ),
    val=_val,
    test=_val,
)
auto_scale_lr = dict(base_batch_size=32)
