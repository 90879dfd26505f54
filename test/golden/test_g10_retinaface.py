"""RetinaFace against the numbers of the two original projects (golden G10): network, loss, training."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmdet.core.anchors import Anchors, PriorGenerator
from mmdet.core.assigners import MultiBoxAssigner
from mmdet.core.coders import PriorCoder
from mmdet.core.structures import Batch, Outputs
from mmdet.models import build_detector
from mmdet.models.criteria.multibox import MultiBoxCriterion
from mmdet.models.losses import SmoothL1Loss

ANCHORS = dict(type="PriorGenerator", strides=(8, 16, 32), min_sizes=((16, 32), (64, 128), (256, 512)))
GENERATOR = PriorGenerator(strides=ANCHORS["strides"], min_sizes=ANCHORS["min_sizes"])
PARTS = {
    "R50": (dict(type="ResNet50"), (512, 1024, 2048), 256),
    "mnet025": (dict(type="MobileNet025"), (64, 128, 256), 64),
}
CURED = {"zero_size_and_prior0"}  # the reference's box loss is inf there


@pytest.fixture(scope="module")
def model_of(golden_fill):
    known = {}

    def build(name):
        if name not in known:
            model = build_detector(model_cfg(name))
            filled = golden_fill.fill_state_dict({k: v.numpy() for k, v in model.state_dict().items()})
            for key, value in filled.items():
                if name == "R50" and key.startswith("body.") and key.endswith(".weight") and value.ndim == 1:
                    value *= 0.7
            model.load_state_dict({k: torch.tensor(v) for k, v in filled.items()})
            known[name] = model
        return known[name]

    return build


def model_cfg(name):
    backbone, in_channels, channels = PARTS[name]
    head = dict(type="RetinaFaceHead", in_channels=channels, anchor_generator=ANCHORS, use_kps=True)
    neck = dict(type="SSHFPN", in_channels=in_channels, out_channels=channels)
    return dict(type="RetinaFace", backbone=backbone, neck=neck, bbox_head=head)


def level_sizes(height, width):
    return tuple((-(-height // s), -(-width // s)) for s in (8, 16, 32))


@pytest.mark.parametrize("name", PARTS)
def test_keys_and_parameters(name, g10):
    expected = g10.json["models"][name]
    model = build_detector(model_cfg(name))
    assert [[k, list(v.shape)] for k, v in model.state_dict().items()] == [k[:2] for k in expected["keys"]]
    assert sum(p.numel() for p in model.parameters()) == expected["params"]["total"]
    body = sum(p.numel() for p in model.backbone.parameters())
    assert body == expected["params"]["body"]


@pytest.mark.parametrize("name", PARTS)
def test_initial_weights_are_drawn_as_the_original_draws_them(name, g10):
    torch.manual_seed(0)
    state = build_detector(model_cfg(name)).state_dict()
    for key, (mean, std, _, _) in g10.json["models"][name]["init_stats_seed0"].items():
        if state[key].numel() >= 200:  # a sample of fewer says little about its distribution
            assert float(state[key].double().std(correction=0)) == pytest.approx(std, rel=0.15, abs=1e-6), key
            assert float(state[key].double().mean()) == pytest.approx(mean, abs=0.2 * std + 1e-6), key


@pytest.mark.parametrize("name", PARTS)
def test_outputs(name, g10, golden_fill, model_of):
    model = model_of(name).eval()
    with torch.no_grad():
        images = torch.tensor(golden_fill.image(2, 256, 320))
        body = model.backbone(images)
        fpn = model.fpn(body)
        outputs = model(images)
    for number, (feat, merged) in enumerate(zip(body, fpn, strict=True), start=1):
        close(feat.flatten()[::97], g10.npz[f"net_{name}_main_body{number}_s97"], 1e-4)
        close(merged.flatten()[::29], g10.npz[f"net_{name}_main_fpn{number}_s29"], 1e-4)
        ssh = getattr(model, f"ssh{number}")(merged)
        close(ssh.detach().flatten()[::29], g10.npz[f"net_{name}_main_ssh{number}_s29"], 1e-4)
    close(outputs.bbox_pred, g10.npz[f"net_{name}_main_boxes"], 1e-4)
    close(outputs.cls_logits, g10.npz[f"net_{name}_main_classes"], 1e-4)
    close(outputs.kps_pred, g10.npz[f"net_{name}_main_landmarks"], 1e-4)


def test_outputs_in_train_mode(g10, golden_fill, model_of):
    model = model_of("mnet025").double().train()
    outputs = model(torch.tensor(golden_fill.image(2, 128, 160)).double())
    for part, values in zip(
        ("boxes", "classes", "landmarks"),
        (outputs.bbox_pred, outputs.cls_logits, outputs.kps_pred),
        strict=True,
    ):
        close(values.detach().float(), g10.npz[f"net_mnet025_train_mode_{part}_from_fp64"], 1e-4)


def close(actual, expected, atol):
    expected = torch.as_tensor(np.asarray(expected))
    torch.testing.assert_close(actual.to(expected.dtype), expected, atol=atol, rtol=1e-4)


def test_anchors_are_the_priors(g10):
    for name, expected in g10.json["priors"].items():
        height, width = map(int, name.split("x"))
        grid = GENERATOR.grid(level_sizes(height, width))
        pixels = torch.cat((grid.centers, grid.whs), dim=1).double()
        relative = (pixels / torch.tensor([width, height, width, height])).float()
        assert len(relative) == expected["count"]
        assert hashlib.sha256(relative.numpy().tobytes()).hexdigest() == expected["sha256_float32"]


def test_codec(g10):
    z = g10.npz
    priors = torch.tensor(z["codec_priors"]).double()
    anchors = Anchors(priors[:, :2], None, priors[:, 2:])
    coder, codes = PriorCoder(), torch.tensor(z["codec_decode_input"])
    regular = np.isfinite(z["codec_encode_f64"]).all(1)  # the others: zero-size and inverted boxes
    encoded = coder.encode_bboxes(torch.tensor(z["codec_boxes"]), anchors)
    close(encoded[regular], z["codec_encode_f64"][regular], 1e-12)
    assert encoded.isfinite().all()
    close(coder.encode_kps(torch.tensor(z["codec_landmarks"]), anchors), z["codec_encode_landm_f64"], 1e-12)
    close(coder.decode_bboxes(codes[:, :4], anchors), z["codec_decode_f64"], 1e-12)
    close(coder.decode_kps(codes[:, 4:], anchors), z["codec_decode_landm_f64"], 1e-12)


def make_batch(targets, height, width, dtype=torch.float32):
    """Return a Batch of rows of 15 (box, landmarks, label) in relative coordinates."""
    num_slots = max(1, max(len(t) for t in targets))
    shape = (len(targets), num_slots)
    batch = Batch(
        images=torch.zeros(0),
        gt_bboxes=torch.full((*shape, 4), 7.0, dtype=dtype),
        gt_labels=torch.zeros(shape, dtype=torch.int64),
        gt_kps=torch.zeros(*shape, 5, 3, dtype=dtype),
        gt_valid=torch.zeros(shape, dtype=torch.bool),
        gt_ignore=torch.zeros(shape, dtype=torch.bool),
        valid_hw=torch.tensor([[height, width]] * len(targets)),
    )
    scale = torch.tensor([width, height, width, height], dtype=dtype)
    for image, rows in enumerate(map(torch.as_tensor, targets)):
        n = len(rows)
        batch.gt_bboxes[image, :n] = rows[:, :4] * scale
        batch.gt_kps[image, :n, :, :2] = rows[:, 4:14].view(-1, 5, 2) * scale[:2]
        batch.gt_kps[image, :n, :, 2] = (rows[:, 14:] == 1).float()
        batch.gt_valid[image, :n] = True
    return batch


def match_sets(g10):
    return [name for name in g10.json["match"] if name not in CURED]


def test_matching(g10):
    for name in match_sets(g10):
        height, width = g10.json["match"][name]["size"]
        targets = torch.tensor(g10.npz[f"match_{name}_targets"])
        batch = make_batch([targets], height, width)
        grid = GENERATOR.grid(level_sizes(height, width))
        assigned = MultiBoxAssigner()(grid, batch.gt_bboxes, batch.gt_valid, batch.gt_ignore, batch.valid_hw)
        positive = assigned.is_positive[0].nonzero()[:, 0]
        # Label 0, a face without landmarks, turns its anchors into background there; here it is a face.
        labels = targets[assigned.gt_index[0, positive], 14] if len(targets) else targets.new_zeros(0)
        positive = positive[labels != 0]
        np.testing.assert_array_equal(positive.numpy(), g10.npz[f"match_{name}_pos"], err_msg=name)
        np.testing.assert_array_equal(labels[labels != 0].numpy(), g10.npz[f"match_{name}_labels"])
        face = assigned.gt_index[0, positive]
        anchors, coder = grid.anchors.take(positive), PriorCoder()
        codes = coder.encode_bboxes(batch.gt_bboxes[0, face], anchors)
        close(codes, g10.npz[f"match_{name}_box_t"], 1e-4)
        kps = coder.encode_kps(batch.gt_kps[0, face, :, :2].flatten(1), anchors)
        with_kps = labels[labels != 0] == 1
        close(kps[with_kps], g10.npz[f"match_{name}_landm_t"][with_kps.numpy()], 1e-4)


LOSS_CASES = {  # seed, factor of the class logits
    "main": (1000, 2),
    "one_image_without_match": (1100, 2),
    "nothing_matches": (1200, 2),
    "no_landmarks_at_all": (1300, 2),
    "negatives_clamped_32x32": (1500, 2),
    "all_zero_predictions": (None, 0),
    "saturated_logits_90": (1600, 60),
    "global_max_underflow": (1650, 2),
    "empty_targets": (1700, 2),
    "zero_size_and_prior0": (2100, 2),
}


def predictions(golden_fill, case, batch_size, num_anchors):
    """Return boxes, classes and landmarks of a case, float64."""
    seed, factor = LOSS_CASES[case]
    sizes = {"boxes": (4, 2.0), "classes": (2, 3.0), "landmarks": (10, 2.0)}
    made = []
    for number, (width, scale) in enumerate(sizes.values()):
        count = batch_size * num_anchors * width
        values = np.zeros(count) if seed is None else scale * golden_fill.hash_uniform(count, seed + number)
        made.append(torch.tensor(values.reshape(batch_size, num_anchors, width)))
    if case == "saturated_logits_90":
        made[1] *= 30
    if case == "global_max_underflow":
        made[1][0, 5] = torch.tensor([200.0, 0.0])
        made[1][1, :200] -= 150
    return [value.requires_grad_() for value in made]


class RoundedPriors(PriorGenerator):
    """The anchors as the reference has them in double precision: fp32, relative to a 320 px image."""

    def grid(self, level_sizes_hw, device="cpu"):
        exact = super().grid(level_sizes_hw, device)
        centers, whs = ((values / 320).double() * 320 for values in (exact.centers, exact.whs))
        return replace(exact, centers=centers, whs=whs)


def make_criterion(generator=GENERATOR):
    return MultiBoxCriterion(
        anchor_generator=generator,
        coder=PriorCoder(),
        assigner=MultiBoxAssigner(),
        loss_bbox=SmoothL1Loss(loss_weight=2.0),
        loss_kps=SmoothL1Loss(),
    )


@pytest.mark.parametrize("case", LOSS_CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_loss_and_gradients(case, dtype, g10, golden_fill):
    expected = g10.json["loss"][case]
    (height, width), batch_size = expected["size"], expected["batch"]
    targets = [g10.npz[f"loss_{case}_targets{i}"] for i in range(batch_size)]
    sizes = level_sizes(height, width)
    made = predictions(golden_fill, case, batch_size, GENERATOR.grid(sizes).num_anchors)
    boxes, classes, landmarks = (value.to(dtype) for value in made)
    outputs = Outputs(classes, boxes, landmarks, None, sizes)
    losses = make_criterion()(outputs, make_batch(targets, height, width))
    sum(losses.values()).backward()
    if case in CURED:
        assert all(loss.isfinite() for loss in losses.values())
        assert all(value.grad.isfinite().all() for value in made)
        return
    # In fp32 the reference loses hard negatives when one row is far above the others; ours must not.
    numbers = expected["fp64"]
    assert float(losses["loss_bbox"]) == pytest.approx(2 * numbers["box"], rel=1e-5)
    assert float(losses["loss_cls"]) == pytest.approx(numbers["cls"], rel=1e-5)
    assert float(losses["loss_kps"]) == pytest.approx(numbers["landm"], rel=1e-5)
    for part, value in zip(("boxes", "classes", "landmarks"), made, strict=True):
        key = f"loss_{case}_grad64_{part}_s7"
        if key in g10.npz:
            close(value.grad.flatten()[::7], g10.npz[key], 1e-5 * max(1e-3, np.abs(g10.npz[key]).max()))


def test_training(g10, golden_fill, model_of):
    """Six steps of SGD in double precision; the tolerances follow how sensitive the trajectory is."""
    expected = g10.json["train"]
    model = model_of("mnet025").double().train()
    criterion = make_criterion(RoundedPriors(strides=ANCHORS["strides"], min_sizes=ANCHORS["min_sizes"]))
    filled = golden_fill.fill_state_dict({k: v.numpy() for k, v in model.state_dict().items()})
    model.load_state_dict({k: torch.tensor(v) for k, v in filled.items()})
    images = torch.tensor(golden_fill.image_noise(2, 320, 320)).double()
    batch = make_batch([g10.npz["train_targets0"], g10.npz["train_targets1"]], 320, 320, torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    tolerances = (1e-9, 1e-9, 1e-9, 1e-6, 1e-6, 1e-2)
    for step, (box, cls, landm, total) in enumerate(expected["losses_box_cls_landm_total_fp64"]):
        losses = criterion(model(images), batch)
        found = [float(v) for v in (losses["loss_bbox"] / 2, losses["loss_cls"], losses["loss_kps"])]
        assert found == pytest.approx([box, cls, landm], rel=tolerances[step]), step
        assert float(sum(losses.values())) == pytest.approx(total, rel=tolerances[step])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        if step == 0:
            for name, parameter in model.named_parameters():
                key = f"train_grad64_{name}_s3"
                norm = expected["grad_l2_fp64"][name]
                assert float(parameter.grad.norm()) == pytest.approx(norm, rel=1e-5, abs=1e-8), name
                if key in g10.npz:
                    close(parameter.grad.flatten()[::3], g10.npz[key], 1e-5 * norm)
        optimizer.step()
