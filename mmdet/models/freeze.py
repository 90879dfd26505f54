"""Parts of a model that training leaves as they are: weights and statistics."""

from collections.abc import Sequence

from torch import nn

from mmdet.errors import ConfigError, unknown_name


def freeze(model: nn.Module, names: Sequence[str]) -> None:
    """Keep modules in evaluation mode and their parameters without gradients, for good.

    Args:
        model: changed in place, before its optimizer is built.
        names: of modules as in the keys of a checkpoint: "backbone", "neck", "bbox_head.cls_stride_convs".

    Raises:
        ConfigError: there is no such module, or nothing is left to train.
    """
    known = dict(model.named_modules())
    for name in names:
        if not name or name not in known:
            raise ConfigError(
                unknown_name("freeze", name, [key for key in known if key.count(".") < 2 and key])
            )
        known[name].requires_grad_(False)
        known[name].train = _Still(known[name])  # type: ignore[method-assign,assignment]
        known[name].train()
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"freeze = {tuple(names)} leaves nothing to train")


class _Still:
    """Takes the place of a module's `train`, which nn.Module.train calls on all its children."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, _mode: bool = True) -> nn.Module:
        for part in self.module.modules():
            part.training = False
        return self.module
