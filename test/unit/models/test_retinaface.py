"""RetinaFace: its parts mix with ours by config, and its keys are those of the released files."""

import pytest
import torch

from mmdet.errors import ConfigError
from mmdet.models import build_criterion, build_detector
from mmdet.testing.audit_step import draw_batch

PRIORS = dict(type="PriorGenerator", strides=[8, 16, 32], min_sizes=[[16, 32], [64, 128], [256, 512]])
CORNERS = dict(
    type="AnchorGenerator", strides=[8, 16, 32], base_sizes=[16, 64, 256], scales=[1, 2], ratios=[1.0]
)
RETINA_HEAD = dict(
    type="RetinaFaceHead",
    in_channels=16,
    use_kps=True,
    anchor_generator=PRIORS,
    loss_bbox=dict(type="SmoothL1Loss", loss_weight=2.0),
    loss_kps=dict(type="SmoothL1Loss"),
)
SCRFD_HEAD = dict(
    type="SCRFDHead",
    num_classes=1,
    in_channels=16,
    feat_channels=16,
    stacked_convs=1,
    norm_cfg=dict(type="GN", num_groups=4),
    cls_reg_share=True,
    use_kps=True,
    anchor_generator=CORNERS,
    loss_cls=dict(type="QualityFocalLoss"),
    loss_bbox=dict(type="DIoULoss"),
)
MULTIBOX, ATSS = dict(type="MultiBoxAssigner"), dict(type="ATSSAssigner", topk=9)
MOBILENET = dict(type="MobileNet025")
SSH = dict(type="SSHFPN", in_channels=[64, 128, 256], out_channels=16)
PAFPN = dict(type="PAFPN", in_channels=[64, 128, 256], out_channels=16, num_outs=3)
MIXES = {
    "retinaface": ("RetinaFace", MOBILENET, SSH, RETINA_HEAD, MULTIBOX),
    "retinaface_head_on_our_body_and_neck": (
        "RetinaFace",
        dict(type="MobileNetV1", out_indices=(1, 2, 3)),
        PAFPN,
        RETINA_HEAD,
        MULTIBOX,
    ),
    "scrfd_head_on_r50": (
        "SCRFD",
        dict(type="ResNet50"),
        dict(PAFPN, in_channels=[512, 1024, 2048]),
        SCRFD_HEAD,
        ATSS,
    ),
    "scrfd_head_on_the_ssh_neck": ("SCRFD", MOBILENET, SSH, SCRFD_HEAD, ATSS),
}


def build(kind, backbone, neck, head, assigner):
    torch.manual_seed(0)
    cfg = dict(type=kind, backbone=backbone, neck=neck, bbox_head=head)
    train_cfg = dict(assigner=assigner)
    return build_detector(cfg, train_cfg), build_criterion(cfg, train_cfg)


@pytest.mark.slow
@pytest.mark.parametrize("mix", MIXES)
def test_parts_mix_and_train(mix):
    model, criterion = build(*MIXES[mix])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.002, momentum=0.9)
    batch, losses = draw_batch(2, 96, num_faces=3, slots=4), []
    for _ in range(6):
        loss = sum(criterion(model(batch.images), batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_parts_are_there_under_both_names():
    model, _ = build(*MIXES["retinaface"])
    prefixes = {key.split(".")[0] for key in model.state_dict()}
    assert prefixes == {"body", "fpn", "ssh1", "ssh2", "ssh3", "ClassHead", "BboxHead", "LandmarkHead"}
    assert model.backbone is model.body
    assert model.neck.fpn is model.fpn
    assert model.bbox_head.ClassHead is model.ClassHead
    names = [name for name, _ in model.named_parameters()]
    assert len(names) == len(set(names)) == len(list(model.parameters()))


@pytest.mark.parametrize("size", [(33, 50), (64, 96), (1, 1)])
def test_any_size_of_image_fits_its_anchors(size):
    model, _ = build(*MIXES["retinaface"])
    outputs = model.eval()(torch.zeros(1, 3, *size))
    assert outputs.cls_logits.shape[1] == model.anchor_generator.grid(outputs.level_sizes_hw).num_anchors
    assert model.scores(outputs).shape == (1, outputs.cls_logits.shape[1], 1)


def test_images_without_faces_train_nothing_and_stay_finite():
    model, criterion = build(*MIXES["retinaface"])
    batch = draw_batch(2, 64, num_faces=0, slots=4)
    batch.gt_bboxes.fill_(float("inf"))  # padding slots may hold anything
    batch.gt_kps.fill_(float("nan"))
    losses = criterion(model(batch.images), batch)
    assert all(loss.item() == 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.abs().sum() == 0 for p in model.parameters() if p.grad is not None)


def test_the_loss_does_not_depend_on_padding_or_on_the_other_images():
    _, criterion = build(*MIXES["retinaface"])
    model, _ = build(*MIXES["retinaface"])
    model.eval()
    few, many = draw_batch(1, 96, 2, slots=2, seed=1), draw_batch(1, 96, 2, slots=2, seed=1)
    for name in ("gt_bboxes", "gt_labels", "gt_kps", "gt_valid", "gt_ignore"):
        values = getattr(many, name)
        setattr(many, name, torch.cat([values, torch.zeros_like(values)], dim=1))
    a, b = criterion(model(few.images), few), criterion(model(few.images), many)
    for name in a:
        torch.testing.assert_close(a[name], b[name])


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("backbone", dict(out_indices=(2, 1)), "rising numbers from 0 to 2"),
        ("neck", dict(in_channels=[64, 128]), "expected three"),
        ("neck", dict(out_channels=18), "multiple of 4"),
    ],
)
def test_impossible_parts_are_refused(part, change, message):
    kind, backbone, neck, head, assigner = MIXES["retinaface"]
    parts = {"backbone": backbone, "neck": neck}
    parts[part] = {**parts[part], **change}
    with pytest.raises(ConfigError, match=message):
        build(kind, parts["backbone"], parts["neck"], head, assigner)


def test_refuses_a_coder_or_a_ratio_that_it_cannot_use():
    head = dict(RETINA_HEAD, bbox_coder=dict(type="DistanceCoder"))
    with pytest.raises(ConfigError, match="works with PriorCoder, not with DistanceCoder"):
        build("RetinaFace", MOBILENET, SSH, head, MULTIBOX)
    cfg = dict(type="RetinaFace", bbox_head=RETINA_HEAD, criterion=dict(neg_pos_ratio=0))
    with pytest.raises(ConfigError, match="neg_pos_ratio"):
        build_criterion(cfg, dict(assigner=MULTIBOX))


def test_the_criterion_refuses_an_assigner_that_lists_no_positives():
    kind, backbone, neck, head, _ = MIXES["retinaface"]
    with pytest.raises(ConfigError, match="works with MultiBoxAssigner, not with ATSSAssigner"):
        build(kind, backbone, neck, head, ATSS)
