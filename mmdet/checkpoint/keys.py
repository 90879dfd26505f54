"""One rule for the weights in a checkpoint: where they are, what their keys begin with, which of them fit.

Used by --load-from, init_detector, `model.pretrained`, convert_weights.py, export and publish_model.py:
what one of them reads, all of them read.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from mmdet.checkpoint.foreign import read_foreign
from mmdet.errors import CheckpointError

logger = logging.getLogger("mmdet")

HOLDERS = ("state_dict", "model", "model_state_dict", "net", "weights")
PREFIXES = ("module.", "_orig_mod.", "model.", "ema_model.")  # DataParallel, torch.compile, wrappers
AVERAGE = "ema_"  # mmcv keeps a second copy of the weights under it
BACKBONE = "backbone."
SHOWN = 4  # keys named in an error
LISTED = 20  # keys named in the log


class Weights(NamedTuple):
    """The weights of a checkpoint, and what else it holds.

    Attributes:
        tensors: key -> values, under plain keys.
        prefix: that all keys had and that was dropped.
        num_averages: mmcv's averaged copies left out.
        others: what is beside the weights: "meta", "optimizer", ...
    """

    tensors: dict[str, Tensor]
    prefix: str
    num_averages: int
    others: tuple[str, ...]


def find_weights(content: Mapping, name: str = "the checkpoint") -> Weights:
    """Return the weights of a checkpoint: of its state_dict, its model, or the dict itself.

    A prefix that all keys share ("module.", "_orig_mod.", "model.") is dropped, and so are mmcv's copies
    that average the weights ("ema_...") if the plain ones are there.

    Raises:
        CheckpointError: no tensors, or one with a value that is not finite.
    """
    others: tuple[str, ...] = ()
    for key in HOLDERS:
        inside = content.get(key)
        if isinstance(inside, Mapping) and any(isinstance(value, Tensor) for value in inside.values()):
            others = tuple(str(other) for other in content if other != key)
            content = inside
            break
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{name} holds no weights (its keys: {', '.join(map(str, list(content)[:5]))})")
    _require_finite(tensors, name)
    dropped = ""
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in tensors)), ""):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
        dropped += prefix
    plain = {key: value for key, value in tensors.items() if not key.startswith(AVERAGE)}
    if not plain:
        averages = {key.removeprefix(AVERAGE): value for key, value in tensors.items()}
        return Weights(averages, dropped + AVERAGE, 0, others)
    return Weights(plain, dropped, len(tensors) - len(plain), others)


def _require_finite(tensors: Mapping[str, Tensor], name: str) -> None:
    bad = tuple(key for key, value in tensors.items() if not value.isfinite().all())
    if bad:
        raise CheckpointError(
            f"{name}: {len(bad)} of {len(tensors)} weights hold nan or inf: {_shorten(bad, SHOWN)}. Take an "
            "earlier checkpoint."
        )


@dataclass(frozen=True)
class LoadReport:
    """How a checkpoint fitted a model.

    Attributes:
        missing: keys that only the model has.
        unexpected: keys that only the file has.
        mismatched: keys of another shape or kind of number, with both.
        fitting: the file's values under the model's keys.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    fitting: dict[str, Tensor] = field(repr=False, compare=False)

    def describe(self, num_shown: int = SHOWN) -> str:
        """Return "3 missing: a, b, c; 1 unexpected: d", or "" for a perfect fit."""
        kinds = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape or type": self.mismatched,
        }
        return "; ".join(
            f"{len(keys)} {what}: {_shorten(keys, num_shown)}" for what, keys in kinds.items() if keys
        )


def load_weights(
    model: nn.Module, source: str | Path | Mapping, strict: bool = True, name: str = ""
) -> LoadReport:
    """Copy weights into a model.

    Args:
        model: on any device, in any precision; the values are cast.
        source: a checkpoint of this trainer, of mmcv, mmengine or plain torch, or one already loaded.
        strict: every key must fit; else what fits is loaded and the rest is logged as a warning. Then a
            backbone alone may also go into a detector, and a detector's backbone into a backbone.
        name: of the source, for messages; default its path.

    Returns:
        What did not fit; empty if strict.

    Raises:
        CheckpointError: cannot be read; does not fit (strict); or nothing fits at all.
    """
    is_path = isinstance(source, (str, Path))
    name = name or (str(source) if is_path else "the checkpoint")
    content = read_foreign(source) if isinstance(source, (str, Path)) else source
    tensors = find_weights(content, name).tensors
    own = model.state_dict()
    report = _compare(own, tensors)
    if strict and report.describe():
        raise CheckpointError(
            f"{name} is not of this model: {report.describe()}. Is it of another config? In training, "
            "--load-from with --load-fitting takes what fits."
        )
    if not strict:
        report = max((_compare(own, keyed) for keyed in _spellings(tensors)), key=lambda r: len(r.fitting))
    if not report.fitting:
        raise CheckpointError(f"{name}: nothing in it fits this model: {report.describe()}")
    model.load_state_dict(report.fitting, strict=False)
    if report.describe():
        logger.warning(
            "%s: %d of %d keys loaded; %s", name, len(report.fitting), len(own), report.describe(LISTED)
        )
    return report


def fits(own: Tensor, saved: object) -> bool:
    """Return whether a saved value can be a model's: a tensor of its shape, with fractions if it has them."""
    return (
        isinstance(saved, Tensor)
        and saved.shape == own.shape
        and saved.is_floating_point() >= own.is_floating_point()
    )


def _compare(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> LoadReport:
    shared = {key: value for key, value in tensors.items() if key in own}
    return LoadReport(
        missing=tuple(k for k in own if k not in tensors and not k.endswith("num_batches_tracked")),
        unexpected=tuple(k for k in tensors if k not in own),
        mismatched=tuple(
            f"{key} {_describe(value)} (model: {_describe(own[key])})"
            for key, value in shared.items()
            if not fits(own[key], value)
        ),
        fitting={key: value for key, value in shared.items() if fits(own[key], value)},
    )


def _describe(tensor: Tensor) -> str:
    kind = "" if tensor.is_floating_point() else f" {tensor.dtype}".replace("torch.", "")
    return f"{tuple(tensor.shape)}{kind}"


def _spellings(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield the weights as they are, as those of a detector's backbone, and a detector's backbone alone."""
    yield dict(tensors)
    yield {BACKBONE + key: value for key, value in tensors.items()}
    yield {key.removeprefix(BACKBONE): v for key, v in tensors.items() if key.startswith(BACKBONE)}


def _shorten(keys: tuple[str, ...], num_shown: int) -> str:
    more = f", and {len(keys) - num_shown} more" if len(keys) > num_shown else ""
    return ", ".join(keys[:num_shown]) + more
