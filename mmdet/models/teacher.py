"""A trained detector whose outputs another one learns; it never changes.

What it says about an image may be kept on disk: the key is the image's pixels, so it serves any run that
sees the same ones, a repetition with the same seed or another student.
"""

import hashlib
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mmdet.files import write_bytes


class Told(NamedTuple):
    """What a teacher says about B images; float32.

    Attributes:
        cls_logits: (B, A, C); bbox_pred: (B, A, 4); kps_pred: (B, A, 2K), or (B, 0) without keypoints.
        attention: per level (B, H, W), see `attention_of`.
    """

    cls_logits: Tensor
    bbox_pred: Tensor
    kps_pred: Tensor
    attention: tuple[Tensor, ...]


def attention_of(features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return where the maps (B, C, H, W) of each level are active, (B, H, W): the mean square over channels.

    Scaled to a norm of 1 over each map, so that networks of other widths compare (arXiv:1612.03928).
    """
    maps = [feature.float().square().mean(dim=1) for feature in features]
    return tuple(m / m.square().sum(dim=(1, 2), keepdim=True).sqrt().clamp(min=1e-12) for m in maps)


class Teacher:
    """Calls a frozen network in evaluation mode, in fp32, on the device of the images.

    Args:
        net: a dense detector with its weights.
        digest: of the weights; the cache has a folder for each.
        cache_dir: where to keep what it says; None: nowhere. Reading it copies the images to the host.
    """

    def __init__(self, net: Any, digest: str = "", cache_dir: str | Path | None = None) -> None:
        self.net = net.eval().requires_grad_(False)
        self.net.keeps_features = True
        self.cache_dir = None if cache_dir is None else Path(cache_dir) / digest

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Told:
        """Return what it says about (B, 3, H, W) normalised images."""
        if self.cache_dir is None:
            return self._ask(images)
        paths = [self._path(image) for image in images.cpu()]
        if not all(path.is_file() for path in paths):
            told = self._ask(images)
            for row, path in enumerate(paths):
                _write(path, [value[row].cpu().numpy() for value in _flat(told)])
            return told
        rows = [_read(path) for path in paths]
        values = [torch.from_numpy(np.stack(column)).to(images.device) for column in zip(*rows, strict=True)]
        return Told(values[0], values[1], values[2], tuple(values[3:]))

    def _ask(self, images: Tensor) -> Told:
        self.net.to(images.device)
        outputs = self.net(images.float()).float()
        kps = images.new_zeros(len(images), 0) if outputs.kps_pred is None else outputs.kps_pred
        return Told(outputs.cls_logits, outputs.bbox_pred, kps, attention_of(outputs.features))

    def _path(self, image: Tensor) -> Path:
        key = hashlib.sha1(image.contiguous().numpy().tobytes()).hexdigest()
        assert self.cache_dir is not None
        return self.cache_dir / key[:2] / f"{key}.npz"


def digest_of(net: nn.Module) -> str:
    """Return a digest of a network's weights."""
    found = hashlib.sha1()
    for name, value in net.state_dict().items():
        found.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def _flat(told: Told) -> list[Tensor]:
    return [told.cls_logits, told.bbox_pred, told.kps_pred, *told.attention]


def _write(path: Path, values: list[np.ndarray]) -> None:
    """Keep the arrays of an image; another process must not see half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.savez(content, *values)
    write_bytes(path, content.getvalue(), durable=False, is_shared=True)


def _read(path: Path) -> list[np.ndarray]:
    with np.load(path, allow_pickle=False) as content:
        return [content[f"arr_{number}"] for number in range(len(content.files))]
