"""Losses, gradients and short trainings against the reference's numbers (golden G3)."""

import json

import numpy as np
import pytest
import torch

from benchmark import baseline_targets as baseline
from mmdet.config import load_config
from mmdet.core.structures import Batch
from mmdet.models.build import build_criterion, build_detector
from mmdet.models.detectors.dense import flatten_head_outputs

CONFIGS = ["scrfd_500m", "scrfd_500m_bnkps", "scrfd_2.5g", "scrfd_2.5g_bnkps", "scrfd_10g", "scrfd_10g_bnkps"]
CONFIGS += ["DamoFD_0.5g", "DamoFD_0.5g_lms"]
EDGE_CONFIGS = ["scrfd_500m_bnkps", "scrfd_2.5g", "scrfd_10g_bnkps", "DamoFD_0.5g_lms"]
# name: (image function, added to stride_reg biases, added to stride_cls biases)
VARIANTS = {
    "A": ("image", 0.0, 0.0),
    "B": ("image", 2.0, 0.0),
    "C": ("image", 2.0, -4.595),
    "D": ("image_noise", 2.0, -4.595),
}
LOSSES = ("loss_cls", "loss_bbox", "loss_kps")


@pytest.fixture(scope="module")
def losses_json(golden):
    families = ("insightface", "damofd")
    files = [json.loads((golden / f"g3_losses_{family}.json").read_text()) for family in families]
    return files[0] | files[1]


@pytest.fixture(scope="module")
def setup(repo, golden_fill):
    """Return build(config, variant) -> (network in train mode with the golden weights, criterion)."""

    def build(name, variant):
        folder = "damofd" if name.startswith("DamoFD") else "scrfd"
        config = load_config(repo / "configs" / folder / f"{name}.py")
        model = build_detector(config.model, config.train_cfg, config.test_cfg).train()
        filled = golden_fill.fill_state_dict({k: v.numpy() for k, v in model.state_dict().items()})
        model.load_state_dict({k: torch.tensor(v) for k, v in filled.items()})
        _, add_reg, add_cls = VARIANTS[variant]
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if ".stride_reg." in key and key.endswith(".bias"):
                    parameter += add_reg
                if ".stride_cls." in key and key.endswith(".bias"):
                    parameter += add_cls
        return model, build_criterion(config.model, config.train_cfg)

    return build


@pytest.fixture(scope="module")
def forward(setup):
    """Run a config's network once per variant and image shape; most edge cases share an image."""
    known = {}

    def run(name, variant, images):
        key = (name, variant, images.shape)
        if key not in known:
            model, criterion = setup(name, variant)
            with torch.no_grad():
                known[key] = model(images).float(), criterion
        return known[key]

    return run


def make_batch(images, bboxes, kps, *, ignores=(), valid_hw=None, slots=None):
    """Put per-image arrays into a batch; slots that hold no face get nonsense."""
    slots = slots or max(1, *(len(b) + len(i) for b, i in _zip_longest(bboxes, ignores)))
    size = len(bboxes)
    batch = Batch(
        images=torch.from_numpy(images),
        gt_bboxes=torch.full((size, slots, 4), 7e7),
        gt_labels=torch.zeros(size, slots, dtype=torch.int64),
        gt_kps=torch.full((size, slots, 5, 3), -3e8),
        gt_valid=torch.zeros(size, slots, dtype=torch.bool),
        gt_ignore=torch.zeros(size, slots, dtype=torch.bool),
        valid_hw=torch.tensor(valid_hw or [images.shape[2:]] * size),
    )
    for image, (faces, ignore) in enumerate(_zip_longest(bboxes, ignores)):
        n, m = len(faces), len(ignore)
        batch.gt_bboxes[image, :n] = torch.as_tensor(faces)
        batch.gt_bboxes[image, n : n + m] = torch.as_tensor(ignore)
        batch.gt_kps[image, :n] = torch.as_tensor(kps[image])
        batch.gt_valid[image, :n] = True
        batch.gt_ignore[image, n : n + m] = True
    return batch


def _zip_longest(bboxes, ignores):
    return [(b, ignores[i] if i < len(ignores) else np.zeros((0, 4))) for i, b in enumerate(bboxes)]


def main_batch(golden_fill, image="image", size_hw=(640, 640), **options):
    bboxes, _, kps = golden_fill.gt_main()
    return make_batch(getattr(golden_fill, image)(2, *size_hw), bboxes, kps, **options)


def check_losses(losses, expected, rel=1e-4):
    """Compare each loss with the reference's, which come per level, and the total."""
    assert set(losses) == {key for key in LOSSES if key in expected}
    for key, value in losses.items():
        assert value.dtype == torch.float32 and value.shape == ()
        assert value.item() == pytest.approx(sum(expected[key]), rel=rel, abs=1e-6), key
    assert sum(losses.values()).item() == pytest.approx(expected["total_loss"], rel=rel)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", CONFIGS)
def test_losses(name, variant, forward, losses_json, golden_fill):
    batch = main_batch(golden_fill, VARIANTS[variant][0])
    outputs, criterion = forward(name, variant, batch.images)
    check_losses(criterion(outputs, batch), losses_json[name][f"variant_{variant}"])


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["C", "D"])
@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_in_float64(name, variant, setup, losses_json, golden, golden_fill):
    model, criterion = setup(name, variant)
    batch = main_batch(golden_fill, VARIANTS[variant][0])
    losses = criterion(model.double()(batch.images.double()).float(), batch)
    check_losses(losses, losses_json[name][f"variant_{variant}_fp64"], rel=1e-5)
    sum(losses.values()).backward()

    stored = np.load(golden / f"g3_grads_{name}.npz")
    parameters = dict(model.named_parameters())
    prefix, checked = f"{variant}__grad64__", 0
    for key in stored.files:
        if key.startswith(prefix):
            parameter, stride = key[len(prefix) :].rsplit("__stride", 1)
            got = parameters[parameter].grad.flatten()[:: int(stride)].numpy()
            error = np.linalg.norm(got - stored[key]) / np.linalg.norm(stored[key])
            assert error <= 1e-5, (parameter, error)
            checked += 1
    assert checked >= 10


def edge_batch(case, golden_fill):
    """Return the batch of an edge case of the golden file."""
    bboxes, _, kps = golden_fill.gt_main()
    none, no_kps = np.zeros((0, 4), np.float32), np.zeros((0, 5, 3), np.float32)
    image = golden_fill.image(2, 640, 640)
    if case == "one_empty_image":
        return make_batch(image, [bboxes[0], none], [kps[0], no_kps])
    if case == "all_images_empty":
        return make_batch(image, [none, none], [no_kps, no_kps], slots=3)
    if case == "with_ignore":
        ignores = [np.array([[0, 0, 200, 200], [300, 300, 500, 500]]), np.array([[100, 100, 400, 400]])]
        return main_batch(golden_fill, ignores=ignores)
    if case == "with_ignore_empty_tensors":
        return main_batch(golden_fill, slots=40)
    if case == "many_200":
        many, _, many_kps = golden_fill.gt_many(200)
        return make_batch(image, [many, bboxes[1]], [many_kps, kps[1]])
    if case == "batch1":
        return make_batch(image[:1], bboxes[:1], kps[:1])
    if case == "only_one_huge_face_batch1":
        # The generator filled all three columns of the keypoints, the weight too.
        face = np.array([[20, 20, 620, 620]], np.float32)
        return make_batch(image[:1], [face], [np.full((1, 5, 3), 320, np.float32)])
    if case == "zero_size_faces_batch1":
        faces = np.array([[100, 100, 100, 100], [50, 50, 90, 90]], np.float32)
        return make_batch(image[:1], [faces], [np.full((2, 5, 3), 60, np.float32)])
    if case == "img0_pad_shape_480x640":
        return main_batch(golden_fill, valid_hw=[(480, 640), (640, 640)])
    if case == "input_480x640":
        return main_batch(golden_fill, size_hw=(480, 640))
    batch = main_batch(golden_fill)
    if case == "no_valid_landmarks":
        batch.gt_kps[..., :2], batch.gt_kps[..., 2] = -1, 0
    elif case == "landmark_weights_2_of_5":
        batch.gt_kps[0, :, 2:, 2] = 0
    else:
        raise AssertionError(case)
    return batch


EDGE_CASES = [
    "one_empty_image",
    "with_ignore",
    "with_ignore_empty_tensors",
    "many_200",
    "batch1",
    "only_one_huge_face_batch1",
    "zero_size_faces_batch1",
    "img0_pad_shape_480x640",
    "no_valid_landmarks",
    "landmark_weights_2_of_5",
    "input_480x640",
]


@pytest.mark.parametrize("case", EDGE_CASES)
@pytest.mark.parametrize("name", EDGE_CONFIGS)
def test_edge_case(name, case, forward, losses_json, golden_fill):
    expected = losses_json[name]["edge"][case]
    batch = edge_batch(case, golden_fill)
    outputs, criterion = forward(name, "B", batch.images)
    losses = criterion(outputs, batch)
    if expected["status"] == "ok":
        check_losses(losses, expected)
    else:  # the reference fails here (pad shape without keypoints); ours does not
        assert all(value.isfinite() for value in losses.values())


@pytest.mark.parametrize("name", EDGE_CONFIGS)
def test_no_face_at_all_is_finite_where_the_reference_is_not(name, forward, losses_json, golden_fill):
    expected = losses_json[name]["edge"]["all_images_empty"]
    batch = edge_batch("all_images_empty", golden_fill)
    outputs, criterion = forward(name, "B", batch.images)
    losses = criterion(outputs, batch)
    assert losses.pop("loss_cls").item() == pytest.approx(sum(expected["loss_cls"]), rel=1e-4)
    assert all(value.item() == 0 for value in losses.values())


# ReLU masks flip under rounding and five steps amplify it. In the first two steps of the ResNets that is not
# visible yet. The MobileNet's gradients differ by up to 10 % between one thread and two of the same program,
# its later losses by 6 %; so all that can be asked of late steps is the same course. At lr 0.01 the last bit
# of the outputs' gradients, drawn at random in 8 runs, moved the losses of scrfd_10g_bnkps by up to 0.7 % in
# step 3 and 7.6 % in step 4 (at lr 0.001 by 0.04 % and 2.4 %). The last test here holds a step to 1e-9.
SGD_TOLERANCES = {
    "scrfd_2.5g": (1e-4, 1e-4, 1e-3, 0.05, 0.08),
    "scrfd_10g_bnkps": (1e-4, 1e-4, 1e-3, 0.08, 0.08),
    "scrfd_10g_bnkps, lr 0.01": (1e-4, 1e-4, 0.02, 0.15, 0.15),
    "scrfd_500m_bnkps": (1e-4, 0.01, 0.1, 0.15, 0.15),
    "DamoFD_0.5g_lms": (1e-4, 0.01, 0.1, 0.15, 0.15),
}


@pytest.mark.slow
@pytest.mark.parametrize("lr", ["0.001", "0.01"])
@pytest.mark.parametrize("name", EDGE_CONFIGS)
def test_five_steps_of_sgd(name, lr, setup, losses_json, golden_fill):
    expected = losses_json[name][f"sgd_lr{lr}_5steps"]
    model, criterion = setup(name, "C")
    batch = main_batch(golden_fill)
    optimizer = torch.optim.SGD(model.parameters(), lr=float(lr), momentum=0.9, weight_decay=5e-4)
    tolerances = SGD_TOLERANCES.get(f"{name}, lr {lr}", SGD_TOLERANCES[name])
    for reference, rel in zip(expected["losses"], tolerances, strict=True):
        losses = criterion(model(batch.images).float(), batch)
        total = sum(losses.values())
        assert total.item() == pytest.approx(reference["total"], rel=rel)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    norm = sum(p.detach().double().square().sum() for p in model.parameters()).sqrt().item()
    assert norm == pytest.approx(expected["param_l2_after"], rel=1e-3)


@pytest.mark.slow
def test_a_step_of_sgd_in_float64_is_that_of_the_reference_algorithm(setup, golden_fill):
    """In float64 a ResNet amplifies rounding to 1e-14, so no error of a gradient hides behind a tolerance.

    The MobileNet amplifies even that of float64, in five steps to 7 %.
    """
    courses, batch = [], main_batch(golden_fill)
    bboxes, _, kps = golden_fill.gt_main()
    faces = [baseline.Face(torch.tensor(b), torch.tensor(k)) for b, k in zip(bboxes, kps, strict=True)]
    for use_baseline in (False, True):
        model, criterion = setup("scrfd_2.5g_bnkps", "C")
        model.double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        course = []
        for _ in range(2):
            maps = model.raw(batch.images.double())
            if use_baseline:
                grid = criterion.anchor_generator.grid([level.shape[2:] for level in maps[0]])
                losses = baseline.targets_and_losses(grid, *maps, faces, baseline.nearest_lowest_index)
            else:
                losses = criterion(flatten_head_outputs(*maps, model.bbox_head), batch)
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            course.append([losses[key].item() for key in LOSSES])
        courses.append(course)
    assert courses[0][0] != courses[0][1]
    np.testing.assert_allclose(courses[0], courses[1], rtol=1e-9)
