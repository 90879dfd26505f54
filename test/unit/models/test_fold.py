"""Folding norms for inference: every family's outputs stay, and what must not be folded is not."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from mmdet.apis import _network, detect, init_detector
from mmdet.config import load_config
from mmdet.models.build import build_detector
from mmdet.models.fold import inference_copy

NORMS = nn.modules.batchnorm._BatchNorm


@dataclass
class Out:
    values: Tensor
    absent: Tensor | None = None


class Net(nn.Module):
    """Two convolutions and a norm, called as `order` says."""

    def __init__(self, order: str):
        super().__init__()
        self.order = order
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.other = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        randomise(self)

    def forward(self, images: Tensor) -> Out:
        if self.order == "conv norm":
            return Out(self.other(self.norm(self.conv(images))))
        if self.order == "norm conv":
            return Out(self.other(self.conv(self.norm(images))))
        if self.order == "activation between":
            return Out(self.other(self.norm(self.conv(images).relu())))
        if self.order == "one norm for two":
            return Out(self.norm(self.conv(images)) + self.norm(self.other(images)))
        if self.order == "used twice":  # the shortcut reads the map before the norm
            raw = self.conv(images)
            return Out(raw + self.norm(raw))
        return Out(self.norm(self.conv(images)) + self.norm(self.conv(images + 1)))  # "shared"


def randomise(model: nn.Module) -> None:
    """Give norms statistics and scales of their own."""
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, NORMS):
            for tensor, low in (
                (module.running_mean, -0.5),
                (module.running_var, 0.5),
                (module.weight.data, 0.5),
            ):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + low)


def num_norms(model: nn.Module) -> int:
    return sum(isinstance(module, NORMS) for module in model.modules())


def test_one_channel_by_hand():
    net = Net("conv norm")
    with torch.no_grad():
        net.norm.weight[0], net.norm.bias[0], net.norm.running_mean[0] = 3.0, 0.5, 2.0
        net.norm.running_var[0] = 4.0 - net.norm.eps
        net.conv.weight[0, 0, 1, 1], net.conv.bias[0] = 0.8, 1.0
    folded = inference_copy(net)
    assert folded.conv.weight[0, 0, 1, 1].item() == pytest.approx(0.8 * 3 / 2)
    assert folded.conv.bias[0].item() == pytest.approx((1.0 - 2.0) * 3 / 2 + 0.5)


@pytest.mark.parametrize(("order", "left"), [("conv norm", 0), ("shared", 0), ("norm conv", 1)] + [
    (order, 1) for order in ("activation between", "one norm for two", "used twice")
])  # fmt: skip
def test_only_what_a_norm_alone_follows_is_folded(order, left):
    net = Net(order).train()
    folded = inference_copy(net)
    assert num_norms(folded) == left and num_norms(net) == 1 and net.training
    assert (folded is net) == (left == 1)
    images = torch.randn(2, 3, 8, 8)
    assert torch.allclose(folded.eval()(images).values, net.eval()(images).values, atol=1e-5)


def test_half_precision_and_networks_without_norms_stay():
    half, bare = Net("conv norm").half(), nn.Conv2d(3, 3, 1)
    assert inference_copy(half) is half and inference_copy(bare) is bare


CONFIGS = ["scrfd/scrfd_500m_bnkps", "scrfd/scrfd_2.5g", "scrfd/scrfd_34g", "damofd/DamoFD_0.5g_lms"]


@pytest.mark.parametrize("name", [*CONFIGS, "retinaface/mobilenet0.25"])
def test_every_family_folds_all_its_norms_and_keeps_its_outputs(name, repo):
    cfg = load_config(repo / f"configs/{name}.py")
    model = build_detector(cfg.model, cfg.train_cfg, cfg.test_cfg).eval()
    randomise(model)
    keys = set(model.state_dict())
    folded = inference_copy(model)
    assert num_norms(folded) == 0 < num_norms(model) and set(model.state_dict()) == keys
    images = torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        one, other = model(images), folded(images)
    for key in ("cls_logits", "bbox_pred"):
        expected, got = getattr(one, key), getattr(other, key)
        assert (expected - got).abs().max() <= 1e-5 * (1 + expected.abs().max())


def test_detecting_follows_weights_that_change(repo):
    model = init_detector(repo / f"configs/{CONFIGS[0]}.py", device="cpu")
    image = torch.randint(0, 255, (64, 64, 3), generator=torch.Generator().manual_seed(2)).byte().numpy()
    keys, bias = set(model.state_dict()), model.bbox_head.stride_cls["(8, 8)"].bias
    bias.data.fill_(0.0)
    first = detect(model, [image])[0].scores
    assert torch.equal(detect(model, [image])[0].scores, first) and set(model.state_dict()) == keys
    with torch.no_grad():
        bias.add_(3.0)
    assert detect(model, [image])[0].scores.max() > first.max()
    assert _network(model.train()) is model


def test_a_cpu_copy_joins_predictors_and_the_model_does_not():
    model = build_detector(load_config("configs/scrfd/scrfd_500m_bnkps.py").model).eval()
    randomise(model)
    with torch.no_grad():
        copied = inference_copy(model)
        image = torch.rand(1, 3, 64, 96)
        ours, theirs = copied(image), model(image)
    assert copied.bbox_head.joins_predictors and not model.bbox_head.joins_predictors
    assert {conv.dilation for conv in model.modules() if isinstance(conv, nn.Conv2d)} == {(1, 1)}
    torch.testing.assert_close(ours.kps_pred, theirs.kps_pred, rtol=1e-4, atol=1e-4)
