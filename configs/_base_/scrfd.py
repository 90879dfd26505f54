# What all SCRFD face models share. A model's own file adds the backbone and the widths.
model = dict(
    type="SCRFD",
    neck=dict(type="PAFPN", start_level=1, add_extra_convs="on_output", num_outs=3),
    bbox_head=dict(
        type="SCRFDHead",
        num_classes=1,
        stacked_convs=2,
        norm_cfg=dict(type="GN", num_groups=16, requires_grad=True),
        cls_reg_share=True,
        strides_share=True,
        scale_mode=2,
        anchor_generator=dict(
            type="AnchorGenerator",
            ratios=[1.0],
            scales=[1, 2],
            base_sizes=[16, 64, 256],
            strides=[8, 16, 32],
        ),
        loss_cls=dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_dfl=False,
        reg_max=8,
        loss_bbox=dict(type="DIoULoss", loss_weight=2.0),
        use_kps=False,
        loss_kps=dict(type="SmoothL1Loss", beta=0.1111111111111111, loss_weight=0.1),
    ),
)
train_cfg = dict(assigner=dict(type="ATSSAssigner", topk=9, mode=0))
test_cfg = dict(nms_pre=-1, score_thr=0.02, nms=dict(type="nms", iou_threshold=0.45), max_per_img=-1)
