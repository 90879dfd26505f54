"""Weights from any mmcv or mmdet checkpoint, or an ONNX file, to one of ours, and back."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from mmdet.apis import init_detector
from mmdet.checkpoint.files import pack_weights
from mmdet.checkpoint.foreign import plain_values, read_foreign
from mmdet.checkpoint.keys import Weights, find_weights, load_weights
from mmdet.deploy.export.calibrate import calibrate
from mmdet.deploy.export.export_onnx import ExportModule, ExportOptions, describe, export_module
from mmdet.deploy.export.onnx_weights import load_onnx_weights
from mmdet.deploy.export.verify import TOLERANCE, make_images
from mmdet.deploy.runtime.session import Model, open_model
from mmdet.errors import CheckpointError, ConfigError
from mmdet.files import check_outputs, write_bytes
from mmdet.models.detectors.dense import SCRFD

NAMED = 6
KINDS = {".pth": "torch", ".pt": "torch", ".ckpt": "torch", ".onnx": "onnx"}


def convert(
    source: str | Path,
    target: str | Path,
    config: str | Path | None = None,
    images: str | Path | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Convert weights; the suffixes say from what to what.

    .pth to .pth: plain keys, weights only, foreign objects left out; with a config every key must fit.
    .onnx to .pth: needs the config; the result is run against the file. With a folder of images
    BatchNorm gets statistics again, which fine-tuning needs.
    .pth to .onnx: needs the config; any size and batch.

    Returns:
        Lines that say what matched.

    Raises:
        CheckpointError: cannot be read, or is not of the config's model.
        WriteError: cannot be written.
        ConfigError: another suffix, no config where one is needed, or the target exists and `overwrite` is
            False.
    """
    kinds = tuple(KINDS.get(Path(path).suffix.lower()) for path in (source, target))
    if None in kinds or kinds == ("onnx", "onnx"):
        raise ConfigError(f"{source} -> {target}: from .pth or .onnx to .pth, or from .pth to .onnx")
    if config is None and "onnx" in kinds:
        raise ConfigError("--config is missing: an ONNX file does not say which config its model has")
    if images is not None and kinds[0] != "onnx":
        raise ConfigError("--calibrate is for ONNX files; a checkpoint holds BatchNorm's statistics")
    if not Path(source).is_file():
        raise CheckpointError(f"{source}: no such file")
    targets = [Path(target), *([Path(target).with_suffix(".json")] if kinds[1] == "onnx" else [])]
    check_outputs(targets, [source, *([config] if config else [])], overwrite)
    if kinds[0] == "onnx":
        assert config is not None
        lines = _from_onnx(source, target, config, images)
    else:
        lines = _from_checkpoint(source, target, config, to_onnx=kinds[1] == "onnx")
    return [*lines, f"wrote {target}"]


def _from_checkpoint(
    source: str | Path, target: str | Path, config: str | Path | None, to_onnx: bool
) -> list[str]:
    content = read_foreign(source)
    found = find_weights(content, str(source))
    meta = plain_values(content.get("meta"))
    meta = meta if isinstance(meta, dict) else {}
    lines = _describe_checkpoint(source, found)
    if config is None:
        lines.append("not compared with a model: no --config")
        write_bytes(target, pack_weights(found.tensors, meta), parents=True)
        return lines
    model = init_detector(config, device="cpu")
    load_weights(model, found.tensors, name=str(source))
    own = model.state_dict()
    num_matched = sum(key in own for key in found.tensors)
    lines.append(f"{num_matched} of {len(own)} keys of {config} matched by name, none is left over")
    if not to_onnx:
        write_bytes(target, pack_weights(found.tensors, meta), parents=True)
        return lines
    model.CLASSES = _class_names(meta, model)
    options = ExportOptions(dynamic_batch=True)
    export_module(ExportModule(model, describe(model, options)), target, options)
    return lines


def _from_onnx(
    source: str | Path, target: str | Path, config: str | Path, images: str | Path | None
) -> list[str]:
    model = init_detector(config, device="cpu")
    report = load_onnx_weights(model, source)
    kept = [key for key in report.kept if not key.endswith("integral.project")]  # a constant
    onnx_model = open_model(source, "cpu")
    lines = [
        f"{len(report.by_name)} keys matched by name, {len(report.by_order)} by the order of the layers",
        f"{len(kept)} keys not in the file{': ' if kept else ''}{', '.join(kept[:NAMED])}",
    ]
    if images is not None:
        num_layers, num_images = calibrate(model, images, describe(model, ExportOptions()))
        lines.append(f"statistics of {num_layers} BatchNorm layers from {num_images} pictures")
    error = _run_both(model, onnx_model)
    if not error <= TOLERANCE[onnx_model.description.precision]["distance"]:
        raise CheckpointError(f"{source} and the converted model differ by {error:.3g}: of another config?")
    meta = {"CLASSES": onnx_model.description.classes, "config": model.cfg.text}
    write_bytes(target, pack_weights(model.state_dict(), meta), parents=True)
    return [*lines, f"run against the file: max abs error {error:.1e}"]


def _run_both(model: SCRFD, onnx_model: Model) -> float:
    """Return the largest difference of the outputs on one input."""
    if onnx_model.description.nms is not None:
        raise CheckpointError(f"{onnx_model.name} was exported --with-nms; convert one without")
    images = make_images(onnx_model.fixed_batch or 1, onnx_model.fixed_hw or (320, 256))
    with torch.no_grad():
        module = ExportModule(model.eval(), describe(model, ExportOptions()))
        want = [out.numpy() for out in module(torch.from_numpy(images))]
    got = onnx_model.run(images)
    if [array.size for array in got] != [array.size for array in want]:
        raise CheckpointError(
            f"{onnx_model.name} gives {len(got)} outputs, {sum(a.size for a in got)} numbers; the config's "
            f"model {len(want)}, {sum(a.size for a in want)}: of another config?"
        )
    errors = [np.abs(a - b.reshape(a.shape)).max() for a, b in zip(want, got, strict=True)]
    return float(np.max(errors))  # not Python's max(), which drops nan


def _describe_checkpoint(source: str | Path, found: Weights) -> list[str]:
    prefix = f", prefix {found.prefix!r} dropped" if found.prefix else ""
    lines = [f"{len(found.tensors)} weights in {source}{prefix}"]
    left_out = [other for other in found.others if other != "meta"]
    if found.num_averages:
        left_out.append(f"{found.num_averages} second copies under 'ema_'")
    return lines + ([f"left out: {', '.join(left_out)}"] if left_out else [])


def _class_names(meta: Mapping, model: SCRFD) -> tuple[str, ...]:
    names = meta.get("CLASSES") or model.CLASSES
    return (names,) if isinstance(names, str) else tuple(map(str, names))
