"""All published face models against the reference: keys, start values, size, outputs (G1, G2)."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdet.checkpoint.files import load
from mmdet.checkpoint.keys import load_weights
from mmdet.config import load_config
from mmdet.models.build import build_detector
from mmdet.models.flops import count_complexity

CONFIGS = (
    "base_500m base_1g base_1.3g base_2.5g base_10g base_34g scrfd_500m scrfd_500m_bnkps scrfd_1g scrfd_1gbn "
    "scrfd_1.3g scrfd_2.5g scrfd_2.5g_bnkps scrfd_10g scrfd_10g_bnkps scrfd_34g scrfdgen2.5g_0 "
    "scrfd_crowdhuman_2.5g_bnkps"
).split()
DAMOFD = [f"DamoFD_{size}{points}" for size in ("0.5g", "2.5g", "10g", "34g") for points in ("", "_lms")]
CONFIGS += DAMOFD
WITH_OUTPUTS = "scrfd_500m scrfd_500m_bnkps scrfd_2.5g scrfd_2.5g_bnkps scrfd_10g scrfd_10g_bnkps".split()
DAMOFD_WITH_OUTPUTS = ["DamoFD_0.5g", "DamoFD_0.5g_lms"]
OUTPUT_TOLERANCE = 1e-4
PARTS = ("backbone", "neck", "bbox_head")


@pytest.fixture(scope="module")
def models(golden: Path) -> dict:
    found: dict = {}
    for family in ("insightface", "damofd"):
        with gzip.open(golden / f"g1_models_{family}.json.gz") as file:
            found |= json.load(file)
    return found


def build(repo: Path, name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    folder = "damofd" if name in DAMOFD else "scrfd"
    return build_detector(load_config(str(repo / "configs" / folder / f"{name}.py")).model)


def fill(model: torch.nn.Module, golden_fill) -> torch.nn.Module:
    values = golden_fill.fill_state_dict({k: v.numpy() for k, v in model.state_dict().items()})
    model.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in values.items()})
    return model.eval()


def test_every_golden_model_is_tested(models):
    assert sorted(CONFIGS) == sorted(models)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_state_dict_starts_as_the_reference(name, models, repo):
    expected = models[name]
    model = build(repo, name)
    state = model.state_dict()
    assert [[k, list(v.shape), str(v.dtype)[6:]] for k, v in state.items()] == expected["state_dict"]
    assert sum(p.numel() for p in model.parameters()) == expected["params_total"]
    assert not [k for k, p in model.named_parameters() if not p.requires_grad]
    for key, (mean, std, low, high) in expected["init_stats_seed0"].items():
        check_start(key, state[key].double(), mean, std, low, high)


def check_start(key: str, value: torch.Tensor, mean: float, std: float, low: float, high: float) -> None:
    """Compare two random draws, or two constants; the reference's own draw is as random as ours."""
    if std == 0:
        assert mean == low and (value == mean).all(), key
        return
    n = value.numel()
    deviation = value.std(unbiased=False).item()
    assert abs(value.mean().item() - mean) < 7 * std / n**0.5, key
    assert abs(deviation / std - 1) < 6 / n**0.5, key
    largest, reference = value.abs().max().item(), max(abs(low), abs(high))
    assert 0.5 < largest / reference < 2, key


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_size_and_flops_equal_the_reference(name, models, repo):
    model = build(repo, name)
    for height in (480, 640):
        counted = count_complexity(model, height, 640)
        expected = models[name]["flops"][f"{height}x640"]
        assert counted.conv_macs == expected["conv_macs"]
        assert sum(counted.flops.values()) == pytest.approx(expected["mmcv_flops"], abs=0.5)
    assert counted.params == models[name]["params_by_part"]
    vga = models[name]["flops"]["reference_get_flops_VGA"]
    assert 0.75 * sum(counted.flops.values()) == pytest.approx(vga, abs=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*WITH_OUTPUTS, *DAMOFD_WITH_OUTPUTS])
def test_outputs_equal_the_reference(name, golden, golden_fill, repo):
    expected = np.load(golden / f"g2_{name}.npz")
    model = fill(build(repo, name), golden_fill)
    images = torch.from_numpy(golden_fill.image(2, 256, 320))
    with torch.no_grad():
        feats = model.backbone(images)
        for index, feat in enumerate(feats):
            assert_close(feat.flatten()[::97], expected[f"backbone_out{index}_s97"])
        for index, feat in enumerate(model.neck(feats)):
            assert_close(feat.flatten()[::29], expected[f"neck_out{index}_s29"])
        maps = dict(zip(("cls", "bbox", "kps"), model.raw(images), strict=True))
    for kind, levels in maps.items():
        for stride, level in zip((8, 16, 32), levels, strict=True):
            if f"{kind}_{stride}" in expected:
                assert_close(level, expected[f"{kind}_{stride}"])
            else:
                assert kind == "kps" and level is None


@pytest.mark.parametrize("name", WITH_OUTPUTS)
def test_odd_image_size_equals_the_reference(name, golden, golden_fill, repo):
    summary = json.loads((golden / "g2_summary_insightface.json").read_text())
    expected = summary[name]["tensors"]["odd_250x330"]
    model = fill(build(repo, name), golden_fill)
    with torch.no_grad():
        cls, bbox, kps = model.raw(torch.from_numpy(golden_fill.image(1, 250, 330)))
    for kind, levels in (("cls", cls), ("bbox", bbox), ("kps", kps)):
        for stride, level in zip((8, 16, 32), levels, strict=True):
            if kind == "kps" and not name.endswith("kps"):
                assert level is None
                continue
            wanted = expected[f"{kind}_{stride}"]
            assert list(level.shape) == wanted["shape"]
            stats = golden_fill.stats(level.numpy())
            for statistic in ("mean", "std", "absmax"):
                assert stats[statistic] == pytest.approx(wanted[statistic], abs=OUTPUT_TOLERANCE)


def test_published_weights_fit_strictly(shared, repo):
    path = shared / "data" / "scrfd_pth" / "janicevidal__model_SCRFD_500M_KPS.pth"
    model = build(repo, "scrfd_500m_bnkps")
    load_weights(model, path)
    published = load(path)
    assert published["meta"]["epoch"] == 640
    assert list(published["state_dict"]) == list(model.state_dict())
    assert all(torch.equal(published["state_dict"][k], v) for k, v in model.state_dict().items())


def assert_close(actual: torch.Tensor, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    assert (actual - torch.from_numpy(expected)).abs().max().item() <= OUTPUT_TOLERANCE


def test_damofd_takes_sizes_whose_heights_do_not_halve(repo):
    model = build(repo, "DamoFD_0.5g").eval()  # the reference fails: no map has a quarter of 250 rows
    with torch.no_grad():
        shapes = [tuple(feat.shape[1:]) for feat in model.backbone(torch.zeros(1, 3, 250, 330))]
        maps = model.raw(torch.zeros(1, 3, 250, 330))
    assert shapes == [(32, 63, 83), (64, 32, 42), (120, 16, 21), (160, 8, 11)]
    assert [level.shape[2:] for level in maps[0]] == [(32, 42), (16, 21), (8, 11)]


def test_damofd_weights_load_by_name(repo, tmp_path):
    source = build(repo, "DamoFD_0.5g_lms")
    torch.save(
        {"state_dict": {f"module.{k}": v + 1 for k, v in source.state_dict().items()}}, tmp_path / "a.pth"
    )
    model = build(repo, "DamoFD_0.5g_lms")
    load_weights(model, tmp_path / "a.pth")
    assert all(torch.equal(v + 1, model.state_dict()[k]) for k, v in source.state_dict().items())
