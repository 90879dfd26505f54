"""Weights from any mmcv or mmdet checkpoint, or an ONNX file, to one of ours, and back."""

from pathlib import Path

import numpy as np
import torch

from mmdet import checkpoint
from mmdet.apis import init_detector
from mmdet.deploy.description import Description
from mmdet.deploy.export_onnx import ExportModule, ExportOptions, describe, export_module
from mmdet.deploy.foreign import find_weights, plain_values, read_foreign
from mmdet.deploy.onnx_weights import load_onnx_weights
from mmdet.deploy.session import open_model
from mmdet.deploy.verify import make_images
from mmdet.errors import CheckpointError, ConfigError
from mmdet.models.detectors.scrfd import SCRFD

SAME = 1e-3  # of probabilities, and of distances in strides; the file's arithmetic is folded, ours is not
NAMED = 6


def convert(source: str | Path, target: str | Path, config: str | Path | None = None) -> list[str]:
    """Convert weights; the suffixes say from what to what.

    .pth to .pth: plain keys, weights only, foreign objects left out; with a config every key must fit.
    .onnx to .pth: needs the config; the result is run against the file.
    .pth to .onnx: needs the config; any size and batch.

    Returns:
        Lines that say what matched.

    Raises:
        CheckpointError: cannot be read, or is not of the config's model.
        ConfigError: another suffix, or no config where one is needed.
    """
    kinds = (Path(source).suffix.lower(), Path(target).suffix.lower())
    if kinds not in ((".pth", ".pth"), (".onnx", ".pth"), (".pth", ".onnx")):
        raise ConfigError(f"{source} -> {target}: from .pth or .onnx to .pth, or from .pth to .onnx")
    if config is None and ".onnx" in kinds:
        raise ConfigError("--config is missing: an ONNX file does not say which config its model has")
    if not Path(source).is_file():
        raise CheckpointError(f"{source}: no such file")
    if kinds[0] == ".onnx":
        return _from_onnx(source, target, config)
    content = read_foreign(source)
    weights = find_weights(content, str(source))
    lines = [f"{len(weights)} weights in {source}"]
    if config is None:
        lines.append("not compared with a model: no --config")
    else:
        model = init_detector(config, device="cpu")
        checkpoint.load_weights(model, weights)
        lines.append(f"all {len(model.state_dict())} keys of {config} matched by name")
    if kinds[1] == ".onnx":
        options = ExportOptions(dynamic_batch=True)
        export_module(ExportModule(model, describe(model, options)), target, options)
    else:
        _save(target, weights, content.get("meta"))
    return [*lines, f"wrote {target}"]


def _from_onnx(source: str | Path, target: str | Path, config: str | Path | None) -> list[str]:
    model = init_detector(config, device="cpu")  # type: ignore[arg-type]
    report = load_onnx_weights(model, source)
    kept = [key for key in report.kept if not key.endswith("integral.project")]  # a constant
    error = _compare(model, source)
    if not error <= SAME:
        raise CheckpointError(f"{source} and the converted model differ by {error:.3g}: of another config?")
    _save(target, model.state_dict(), {"CLASSES": model.CLASSES, "config": model.cfg.text})
    return [
        f"{len(report.by_name)} keys matched by name, {len(report.by_order)} by the order of the layers",
        f"{len(kept)} keys not in the file{': ' if kept else ''}{', '.join(kept[:NAMED])}",
        f"run against the file: max abs error {error:.1e}",
        f"wrote {target}",
    ]


def _compare(model: SCRFD, path: str | Path) -> float:
    """Return the largest difference of the outputs on one input."""
    onnx_model = open_model(path, "cpu")
    hw = onnx_model.fixed_hw or (320, 256)
    images = make_images(onnx_model.fixed_batch or 1, hw)
    options = ExportOptions()
    facts: Description = describe(model, options)
    with torch.no_grad():
        want = [out.numpy() for out in ExportModule(model.eval(), facts)(torch.from_numpy(images))]
    got = onnx_model.run(images)
    if len(got) != len(want):
        raise CheckpointError(
            f"{path} has {len(got)} outputs, the config's model {len(want)}: of another config?"
        )
    return max(float(np.abs(a - b.reshape(a.shape)).max()) for a, b in zip(want, got, strict=True))


def _save(target: str | Path, weights: dict, meta: object) -> None:
    keep = {key: value.detach().contiguous() for key, value in weights.items()}
    checkpoint.save(target, {"meta": plain_values(meta) or {}, "state_dict": keep})
