"""How weights start: one function per rule, drawn from torch's global generator."""

from torch import nn

PRIOR_BIAS = -4.595  # sigmoid gives 0.01: at the start one anchor in a hundred is a face


def init_backbone(module: nn.Module) -> None:
    """Kaiming normal (fan out, ReLU) for convolutions, 1 and 0 for norms."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            _fill_bias(layer, 0.0)
    init_norms(module)


def init_xavier(module: nn.Module) -> None:
    """Xavier uniform for convolutions, biases 0; norms 1 and 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            _fill_bias(layer, 0.0)
    init_norms(module)


def init_normal(module: nn.Module, bias: float = 0.0) -> None:
    """Draw convolution weights from N(0, 0.01); biases get one value; norms 1 and 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
            _fill_bias(layer, bias)
    init_norms(module)


def init_norms(module: nn.Module, weight: float = 1.0) -> None:
    """Set the weight of every norm layer and its bias to 0."""
    for layer in module.modules():
        if isinstance(layer, (nn.modules.batchnorm._BatchNorm, nn.GroupNorm)):
            nn.init.constant_(layer.weight, weight)
            nn.init.zeros_(layer.bias)


def _fill_bias(layer: nn.Conv2d, value: float) -> None:
    if layer.bias is not None:
        nn.init.constant_(layer.bias, value)
