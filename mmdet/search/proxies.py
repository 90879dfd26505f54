"""Zero-cost scores that build a network: GradNorm, SynFlow, NASWOT, Zen and TE-NAS. Higher is better.

The networks have no shortcuts, are drawn at random and see noise, in train mode. Each function takes the
network and what it may draw from, so that a test gives its own numbers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from zlib import crc32

import torch
from torch import Tensor, nn

from mmdet.models.plainnet.blocks import PlainNet, Relu
from mmdet.models.plainnet.structure import Structure, to_string

Draw = Callable[..., Tensor]  # draw(*shape) -> normal noise on the network's device


@dataclass(frozen=True)
class ProxySettings:
    """How proxies look at a network.

    Attributes:
        side, batch_size, num_classes: of the noise images and the classifier.
        gamma: size of Zen's perturbation.
        seed: with the structure it decides all draws, so that a score does not depend on what came before.
        device: torch device.
    """

    side: int = 224
    batch_size: int = 64
    num_classes: int = 1000
    gamma: float = 0.01
    seed: int = 0
    device: str = "cpu"


def score(name: str, structure: Structure, settings: ProxySettings) -> float:
    """Build a network, draw it and its input, and score it.

    Args:
        name: a key of PROXIES.
        structure: what to build.
        settings: sizes, seed and device.
    """
    # 32 bits, because of a larger seed the CPU generator uses no more.
    generator = torch.Generator().manual_seed(crc32(f"{settings.seed} {to_string(structure)}".encode()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        net = PlainNet(structure, settings.num_classes)
    if name != "te-nas":  # that one is for torch's own initialisation
        _fill_normal(net, generator)
    net = net.to(settings.device).train()

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(settings.device)

    images = draw(settings.batch_size, 3, settings.side, settings.side)
    if name == "gradnorm":
        labels = torch.randint(settings.num_classes, (settings.batch_size,), generator=generator)
        return grad_norm(net, images, labels.to(settings.device))
    return zen(net, images, draw, settings.gamma) if name == "zen" else PROXIES[name](net, images)


def grad_norm(net: PlainNet, images: Tensor, labels: Tensor) -> float:
    """Return the L2 norm of all gradients of the cross-entropy against given labels."""
    net.zero_grad()
    nn.functional.cross_entropy(net(images), labels).backward()
    grads = [p.grad.double() for p in net.parameters() if p.grad is not None]
    return sum(grad.square().sum().item() for grad in grads) ** 0.5


def synflow(net: PlainNet, images: Tensor) -> float:
    """Return minus the sum over layers of the mean over outputs of sum |w dL/dw|, L the sum of the outputs.

    Args:
        net: its weights are made absolute, its tensors doubles.
        images: only their size counts; the input is one image, all ones.
    """
    net.double()
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.abs_()
    net.zero_grad()
    net(torch.ones_like(images[:1], dtype=torch.float64)).sum().backward()
    total = 0.0
    for layer in _layers(net):
        if layer.weight.grad is not None:
            total += (layer.weight * layer.weight.grad).abs().flatten(1).sum(dim=1).mean().item()
    return -total


@torch.no_grad()
def naswot(net: PlainNet, images: Tensor) -> float:
    """Return ln det of the kernel that counts, per pair of images, ReLUs in the same state."""
    kernel = torch.zeros(len(images), len(images), dtype=torch.float64, device=images.device)

    def count(_: nn.Module, inputs: tuple[Tensor]) -> None:
        active = (inputs[0] > 0).flatten(1).double()
        kernel.add_(active @ active.T + (1 - active) @ (1 - active).T)

    hooks = [m.register_forward_pre_hook(count) for m in net.modules() if isinstance(m, Relu)]
    net(images)
    for hook in hooks:
        hook.remove()
    return torch.linalg.slogdet(kernel.cpu())[1].item()


@torch.no_grad()
def zen(net: PlainNet, images: Tensor, draw: Draw, gamma: float) -> float:
    """Return ln of the mean L1 change of the features under noise, plus the BatchNorms' log scales."""
    noise = draw(*images.shape)
    change = net.features(images) - net.features(images + gamma * noise)
    total = change.abs().sum(dim=(1, 2, 3)).mean().log().item()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_var is not None:
            total += layer.running_var.mean().sqrt().log().item()
    return total


def te_nas(net: PlainNet, images: Tensor) -> float:
    """Return minus the condition number of the neural tangent kernel of a batch."""
    weights = [p for name, p in net.named_parameters() if "weight" in name]
    outputs = net(images).sum(dim=1)
    rows = []
    for index, output in enumerate(outputs):
        grads = torch.autograd.grad(output, weights, retain_graph=index < len(outputs) - 1)
        rows.append(torch.cat([grad.flatten() for grad in grads]))
    gradients = torch.stack(rows)
    values = torch.linalg.eigvalsh(gradients @ gradients.T)  # ascending
    return -(values[-1] / values[0]).item()


PROXIES: dict[str, Callable[..., float]] = dict(gradnorm=grad_norm, syncflow=synflow, naswot=naswot, zen=zen)
PROXIES["te-nas"] = te_nas


def _fill_normal(net: nn.Module, generator: torch.Generator) -> None:
    """Draw convolutions and the classifier from N(0, 1); norms start at 1 and 0."""
    for layer in _layers(net):
        layer.weight.data = torch.randn(layer.weight.shape, generator=generator)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _layers(net: nn.Module) -> Iterator[nn.Conv2d | nn.Linear]:
    return (layer for layer in net.modules() if isinstance(layer, (nn.Conv2d, nn.Linear)))
