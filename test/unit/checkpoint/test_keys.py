"""One rule for holders, prefixes and keys; and what fits of a checkpoint."""

import logging
import re

import pytest
import torch
from torch import nn

from mmdet.checkpoint.files import save
from mmdet.checkpoint.keys import find_weights, load_weights
from mmdet.errors import CheckpointError


def make_model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


@pytest.mark.parametrize("wrap", [dict, lambda s: {"meta": {}, "state_dict": s}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_of_all_forms_fit(tmp_path, wrap, prefix):
    donor, model = make_model(), make_model()
    weights = {prefix + k: v for k, v in donor.state_dict().items()}
    save(tmp_path / "a.pth", wrap(weights))
    assert load_weights(model, tmp_path / "a.pth").describe() == ""
    assert load_weights(make_model(), wrap(weights)).describe() == ""
    assert torch.equal(model[0].weight, donor[0].weight)


def test_half_precision_weights_are_cast():
    donor, model = make_model().half(), make_model()
    load_weights(model, donor.state_dict())
    assert model[0].weight.dtype == torch.float32
    assert torch.equal(model[0].weight, donor[0].weight.float())


def test_old_weights_without_batch_counters_fit():
    weights = {k: v for k, v in make_model().state_dict().items() if "num_batches" not in k}
    assert load_weights(make_model(), weights).missing == ()


def test_weights_of_another_model_are_refused_by_key():
    model = make_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    weights = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Identity(), nn.Linear(1, 1)).state_dict()
    words = (
        "the checkpoint is not of this model: 4 missing: 1.weight, 1.bias, 1.running_mean, 1.running_var; "
        "2 unexpected: 2.weight, 2.bias; 2 of another shape or type: 0.weight (3, 1, 1, 1) "
        "(model: (2, 1, 1, 1)), "
        "0.bias (3,) (model: (2,))"
    )
    with pytest.raises(CheckpointError, match=re.escape(words)):
        load_weights(model, weights)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_many_keys_are_counted():
    with pytest.raises(CheckpointError, match="9 unexpected: k0, k1, k2, k3, and 5 more"):
        load_weights(
            make_model(), {**make_model().state_dict(), **{f"k{i}": torch.zeros(1) for i in range(9)}}
        )


def test_loading_what_fits_reports_the_rest(caplog):
    model, donor = make_model(), make_model()
    weights = donor.state_dict()
    weights["0.bias"] = torch.zeros(5)
    weights["head.weight"] = torch.zeros(1)
    del weights["1.bias"]
    with caplog.at_level(logging.WARNING, "mmdet"):
        report = load_weights(model, weights, strict=False)
    assert report.missing == ("1.bias",) and report.unexpected == ("head.weight",)
    assert report.mismatched == ("0.bias (5,) (model: (2,))",)
    assert torch.equal(model[0].weight, donor[0].weight)
    assert "5 of 7 keys loaded; 1 missing: 1.bias" in caplog.text


def test_nothing_that_fits_is_an_error_even_when_lenient():
    with pytest.raises(CheckpointError, match="nothing in it fits this model"):
        load_weights(make_model(), {"a": torch.zeros(1)}, strict=False)


@pytest.mark.parametrize("content", [{"state_dict": None}, {"epoch": 3}, {"model": {"w": 1}}])
def test_a_file_without_weights_is_named(content):
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_weights(make_model(), content)


@pytest.mark.parametrize("holder", ["state_dict", "model", "model_state_dict", "net", "weights"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module.model.", "ema_model."])
def test_every_holder_and_prefix_is_loaded(holder, prefix):
    donor, model = make_model(), make_model()
    content = {holder: {prefix + k: v for k, v in donor.state_dict().items()}, "epoch": 3}
    assert load_weights(model, content).describe() == ""
    assert torch.equal(model[0].weight, donor[0].weight)
    assert find_weights(content).others == ("epoch",)


class Detector(nn.Module):
    def __init__(self, num_classes=1):
        super().__init__()
        self.backbone = make_model()
        self.head = nn.Conv2d(2, num_classes, 1)


def test_a_strict_refusal_names_the_way_out():
    with pytest.raises(CheckpointError, match=r"[12] of another shape or type") as caught:
        load_weights(Detector(2), Detector().state_dict())
    assert "head.weight (1, 2, 1, 1) (model: (2, 2, 1, 1))" in str(caught.value)
    assert "--load-fitting takes what fits" in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_numbers_of_another_kind_are_no_weights(dtype):
    weights = Detector().state_dict()
    weights["head.weight"] = weights["head.weight"].to(dtype)
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(CheckpointError, match=rf"weight \(1, 2, 1, 1\) {kind} \(model: \(1, 2, 1, 1\)\)"):
        load_weights(Detector(), weights)


def test_another_number_of_classes_keeps_the_rest(caplog):
    model, donor = Detector(2), Detector()
    before = model.head.weight.clone()
    with caplog.at_level(logging.WARNING, "mmdet"):
        report = load_weights(model, donor.state_dict(), strict=False)
    assert torch.equal(model.backbone[0].weight, donor.backbone[0].weight)
    assert torch.equal(model.head.weight, before)
    assert report.mismatched == (
        "head.weight (1, 2, 1, 1) (model: (2, 2, 1, 1))",
        "head.bias (1,) (model: (2,))",
    )
    assert "7 of 9 keys loaded; 2 of another shape or type: head.weight (1, 2, 1, 1)" in caplog.text


def test_a_backbone_alone_goes_into_a_detector_and_back():
    model, backbone = Detector(), make_model()
    report = load_weights(model, {"state_dict": backbone.state_dict()}, strict=False)
    assert torch.equal(model.backbone[0].weight, backbone[0].weight)
    assert report.missing == ("head.weight", "head.bias") and not report.unexpected
    alone = make_model()
    assert load_weights(alone, Detector().state_dict() | model.state_dict(), strict=False).describe() == ""
    assert torch.equal(alone[0].weight, backbone[0].weight)
    with pytest.raises(CheckpointError, match="not of this model"):
        load_weights(Detector(), backbone.state_dict())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value):
    weights = make_model().state_dict()
    weights["1.bias"] = torch.tensor([0.0, value])
    for strict in (True, False):
        with pytest.raises(CheckpointError, match="x.pth: 1 of 7 weights hold nan or inf: 1.bias"):
            load_weights(make_model(), weights, strict, name="x.pth")
