"""Distillation: a slow loop, zero where both say the same, gradients of the student only, the cache."""

import numpy as np
import pytest
import torch

from mmdet.config import load_config
from mmdet.errors import CheckpointError, ConfigError
from mmdet.models.build import build_criterion, build_detector
from mmdet.models.losses import DIoULoss
from mmdet.models.teacher import attention_of
from mmdet.testing.audit_step import draw_batch

CONFIG = "configs/scrfd/scrfd_500m_bnkps.py"
NAMES = ["loss_teacher_cls", "loss_teacher_bbox", "loss_teacher_kps", "loss_teacher_features"]


@pytest.fixture(scope="module")
def trained(repo, tmp_path_factory):
    """Return the config and the file of a teacher whose outputs are not all alike."""
    cfg = load_config(repo / CONFIG)
    torch.manual_seed(5)
    net = build_detector(cfg.model, cfg.train_cfg)
    with torch.no_grad():
        for name, value in net.named_parameters():
            value += 0.05 * torch.randn(value.shape) + 0.5 * ("stride_reg" in name and "bias" in name)
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    torch.save({"state_dict": net.state_dict()}, path)
    return cfg, path


def make(repo, trained, **options):
    cfg, path = trained
    teacher = {"config": str(repo / CONFIG), "checkpoint": str(path), **options.pop("teacher", {})}
    criterion = {"type": "DistillCriterion", "teacher": teacher, **options}
    return build_criterion({**cfg.model, "criterion": criterion}, cfg.train_cfg)


def make_student(trained, is_equal=False):
    cfg, path = trained
    torch.manual_seed(1)
    net = build_detector(cfg.model, cfg.train_cfg)
    if is_equal:
        net.load_state_dict(torch.load(path)["state_dict"])
        net.eval()
    net.keeps_features = True
    return net


def test_nothing_to_learn_from_oneself(repo, trained):
    batch, net, criterion = (
        draw_batch(2, 64, 3, slots=4),
        make_student(trained, is_equal=True),
        make(repo, trained),
    )
    losses = criterion(net(batch.images).float(), batch)
    assert [name for name in losses if "teacher" in name] == NAMES
    assert all(abs(losses[name].item()) < 1e-5 for name in NAMES)
    assert losses["loss_cls"] > 0  # of the labels
    sum(losses[name] for name in ("loss_teacher_cls", "loss_teacher_features")).backward()
    assert all(p.grad is None or p.grad.abs().max() < 1e-5 for p in net.parameters())


def test_only_the_student_learns(repo, trained):
    batch, net, criterion = draw_batch(2, 64, 3, slots=4), make_student(trained), make(repo, trained)
    teacher = criterion.teacher.net
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    losses = criterion(net(batch.images).float(), batch)
    sum(losses[name] for name in NAMES).backward()
    for part in (net.backbone, net.neck, net.bbox_head.stride_cls, net.bbox_head.stride_kps):
        assert any(p.grad.abs().sum() > 0 for p in part.parameters() if p.grad is not None)
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not teacher.training  # its BatchNorm has not counted the batch


def test_equal_to_a_slow_loop(repo, trained):
    batch, net, criterion = draw_batch(2, 64, 3, slots=4), make_student(trained), make(repo, trained)
    outputs = net(batch.images).float()
    losses, told = criterion(outputs, batch), criterion.teacher(batch.images)
    grid = criterion.anchor_generator.grid(outputs.level_sizes_hw)
    cls, bbox, kps, total = 0.0, 0.0, 0.0, 0.0
    for image in range(2):
        for a in range(grid.num_anchors):
            p, q = told.cls_logits[image, a, 0].sigmoid(), outputs.cls_logits[image, a, 0].sigmoid()
            cls -= (p * q.log() + (1 - p) * (1 - q).log()) * (p - q) ** 2
            center = grid.centers[a] / grid.strides[a]
            boxes = [
                torch.cat((center - ltrb[:2], center + ltrb[2:]))
                for ltrb in (outputs.bbox_pred[image, a], told.bbox_pred[image, a])
            ]
            bbox += p**2 * DIoULoss(loss_weight=2.0)(*boxes)
            distance = (outputs.kps_pred[image, a] - told.kps_pred[image, a]).abs()
            kps += p**2 * 0.1 * torch.where(distance < 1 / 9, 4.5 * distance**2, distance - 1 / 18).sum()
            total += p**2
    total = max(total, 1)
    for name, value in (("cls", cls), ("bbox", bbox), ("kps", kps)):
        torch.testing.assert_close(losses[f"loss_teacher_{name}"], value / total, rtol=1e-4, atol=1e-6)
    per_map = [
        ((a / np.linalg.norm(a) - b / np.linalg.norm(b)) ** 2).sum()
        for mine, theirs in zip(outputs.features, told.attention, strict=True)
        for a, b in zip((mine.detach().numpy() ** 2).mean(1), theirs.numpy(), strict=True)
    ]
    assert losses["loss_teacher_features"].item() == pytest.approx(np.mean(per_map), rel=1e-4)


def test_attention_by_hand():
    maps = torch.tensor([[[[3.0, 0]], [[1, 0]]]])  # two channels: mean squares 5 and 0
    assert attention_of((maps, maps * 7))[0].tolist() == [[[1, 0]]] == attention_of((maps * 7,))[0].tolist()
    assert attention_of((torch.zeros(1, 2, 3, 3),))[0].abs().max() == 0


def test_what_is_kept_on_disk_is_what_was_said(repo, trained, tmp_path):
    criterion = make(repo, trained, teacher={"cache_dir": str(tmp_path)})
    images = draw_batch(3, 64, 1, slots=2).images
    live, said = make(repo, trained).teacher(images), criterion.teacher(images)
    assert len(list(tmp_path.rglob("*.npz"))) == 3
    criterion.teacher._ask = None  # would raise
    kept = criterion.teacher(images.flip(0))
    for index in range(3):
        for a, b, c in zip(live[:3], said[:3], kept[:3], strict=True):
            assert torch.equal(a[index], b[index]) and torch.equal(a[index], c[2 - index])
        for a, c in zip(live.attention, kept.attention, strict=True):
            assert torch.equal(a[index], c[2 - index])
    with pytest.raises(TypeError):  # another pixel, another key
        criterion.teacher(images + 1e-3)


def test_parts_may_be_left_out_and_weighed(repo, trained):
    batch, net = draw_batch(1, 64, 2, slots=4), make_student(trained)
    outputs = net(batch.images).float()
    whole = make(repo, trained)(outputs, batch)
    criterion = make(repo, trained, cls_weight=3.0, bbox_weight=0.0, features_weight=0.0)
    losses = criterion(outputs, batch)
    assert [name for name in losses if "teacher" in name] == ["loss_teacher_cls", "loss_teacher_kps"]
    torch.testing.assert_close(losses["loss_teacher_cls"], 3 * whole["loss_teacher_cls"])
    assert not criterion.needs_features and make(repo, trained).needs_features


def test_the_student_is_drawn_as_without_a_teacher(repo, trained):
    torch.manual_seed(0)
    make(repo, trained)
    after = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(3))


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"cls_weight": -1.0}, ConfigError, "at least 0"),
        ({"teacher": {"file": "a"}}, ConfigError, "file"),
        ({"teacher": {"checkpoint": "nowhere.pth"}}, CheckpointError, "nowhere.pth"),
        ({"base": {"type": "Nothing"}}, ConfigError, "model.criterion.type = 'Nothing'"),
        (
            {"teacher": {"config": "configs/recipes/scrfd_500m_bnkps_stride4.py"}},
            CheckpointError,
            "not of this model",
        ),
    ],
)
def test_what_does_not_fit_is_named(repo, trained, options, error, said, monkeypatch):
    monkeypatch.chdir(repo)
    with pytest.raises(error, match=said):
        make(repo, trained, **options)


def test_other_anchors_are_refused(repo, trained, tmp_path):
    config = repo / "configs/recipes/scrfd_500m_bnkps_stride4.py"
    cfg = load_config(config)
    torch.save({"state_dict": build_detector(cfg.model).state_dict()}, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=r"strides \(4, 8, 16, 32\)"):
        make(repo, trained, teacher={"config": str(config), "checkpoint": str(tmp_path / "other.pth")})


@pytest.mark.slow
def test_weights_of_an_onnx_file_teach_the_same(repo, trained, tmp_path):
    pytest.importorskip("onnx")
    from mmdet.deploy.export.export_onnx import ExportOptions, export_checkpoint

    _, path = trained
    file = tmp_path / "teacher.onnx"
    export_checkpoint(repo / CONFIG, path, file, ExportOptions())
    images = draw_batch(1, 64, 1, slots=2).images
    told = [make(repo, trained, teacher={"checkpoint": str(each)}).teacher(images) for each in (path, file)]
    for one, two in zip(told[0][:3], told[1][:3], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
