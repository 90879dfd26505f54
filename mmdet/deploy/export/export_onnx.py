"""Write an ONNX file with torch's exporter, under the names and shapes of the published models."""

import copy
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmdet.apis import init_detector
from mmdet.core.coders import describe_coder
from mmdet.core.postprocess import Postprocess
from mmdet.deploy.export.graph_nms import nms_in_graph
from mmdet.deploy.export.onnx_file import import_package
from mmdet.deploy.runtime.checks import check_fraction
from mmdet.deploy.runtime.description import METADATA_KEY, Description
from mmdet.errors import ConfigError
from mmdet.files import atomic_write, check_outputs
from mmdet.models.dense_heads.scrfd_head import SCRFDHead
from mmdet.models.detectors.dense import SCRFD

logger = logging.getLogger("mmdet")

INPUT_NAME = "input.1"
OPSETS = range(11, 21)
TRACED_HW = (256, 384)  # where height and width stay open; no map is of 1 x 1, which could be taken for fixed


@dataclass(frozen=True)
class ExportOptions:
    """How to export.

    Attributes:
        height, width: of the input; -1 leaves them open.
        dynamic_batch: leave the number of pictures open; else it is 1.
        opset: 11..20.
        simplify: run onnxslim over the graph.
        with_nms: decode and suppress inside the graph.
        score_thr, iou_thr: for with_nms; None: those of the config's test_cfg.
        half: fp16 weights and arithmetic; inputs and outputs stay fp32.
        merge_heads: one convolution for the predictors of a level; such a file cannot be converted back.
        batch_axis: outputs are (N, A, C); else (A, C), as in the files that insightface's packs hold.
    """

    height: int = -1
    width: int = -1
    dynamic_batch: bool = False
    opset: int = 17
    simplify: bool = False
    with_nms: bool = False
    score_thr: float | None = None
    iou_thr: float | None = None
    half: bool = False
    merge_heads: bool = False
    batch_axis: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be exported."""
        if self.opset not in OPSETS:
            raise ConfigError(f"--opset {self.opset}: from {OPSETS[0]} to {OPSETS[-1]}")
        if min(self.height, self.width) != -1 and min(self.height, self.width) < 32:
            raise ConfigError(f"--shape {self.height} {self.width}: at least 32 each, or -1 -1 for any size")
        if (self.height == -1) != (self.width == -1):
            raise ConfigError(f"--shape {self.height} {self.width}: -1 for both or for none")
        for name, value in (("--score-thr", self.score_thr), ("--nms-thr", self.iou_thr)):
            if value is not None:
                check_fraction(name, value)
                if not self.with_nms:
                    raise ConfigError(f"{name} {value} is for NMS inside the graph; add --with-nms")
        if not self.batch_axis and (self.dynamic_batch or self.with_nms):
            other = "--dynamic-batch" if self.dynamic_batch else "--with-nms"
            raise ConfigError(f"--no-batch-axis gives outputs of one picture; it cannot go with {other}")

    @property
    def is_dynamic(self) -> bool:
        """Return whether height and width stay open."""
        return self.height == -1


class ExportModule(nn.Module):
    """A detector whose outputs are those of an ONNX file, in the order of `Description.output_names`.

    Args:
        model: the detector.
        description: of the file.
        batch_axis: see `ExportOptions`.
    """

    def __init__(self, model: SCRFD, description: Description, batch_axis: bool = True) -> None:
        super().__init__()
        self.model = model
        self.description, self.batch_axis = description, batch_axis

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (N, 3, H, W) fp32 to the outputs `Description.output_names` lists."""
        dtype = next(self.model.parameters()).dtype
        levels = [level.float() for level in self.model.levels(images.to(dtype))]
        scores = [self.model.scores(level) for level in levels]
        bboxes = [level.bbox_pred for level in levels]
        kps = [level.kps_pred for level in levels if level.kps_pred is not None]
        if self.description.nms is None:
            return tuple(out if self.batch_axis else out[0] for out in (*scores, *bboxes, *kps))
        return nms_in_graph(scores, levels, self.model.coder, self.description)


def describe(model: SCRFD, options: ExportOptions) -> Description:
    """Return the facts of a model made by `init_detector`, as they will stand in its ONNX file."""
    head = model.bbox_head
    cfg = model.cfg
    anchors = model.anchor_generator
    grid = anchors.grid([(1, 1)] * len(anchors.strides))
    nms = None
    if options.with_nms:
        defaults = Postprocess.from_test_cfg(cfg.test_cfg)
        score_thr = defaults.score_thr if options.score_thr is None else options.score_thr
        iou_thr = defaults.iou_thr if options.iou_thr is None else options.iou_thr
        nms = {"score_threshold": score_thr, "iou_threshold": iou_thr}
    facts = Description(
        strides=anchors.strides,
        num_anchors=anchors.num_anchors_per_cell,
        num_kps=head.num_kps,
        classes=_class_names(model),
        anchors=tuple(level.anchor_whs for level in grid.levels),
        nms=nms,
        coder=describe_coder(model.coder),
        center_offset=grid.center_offset,
        family=cfg.model["type"],
        precision="fp16" if options.half else "fp32",
        config=Path(cfg.filename).stem,
    )
    return replace(facts, **_normalization(cfg.data.test or cfg.data.val or {}))


def export_module(module: ExportModule, path: str | Path, options: ExportOptions) -> None:
    """Write the ONNX file and, beside it, its description as .json; an existing file is replaced at the end.

    Raises:
        DeviceError: the onnx packages are missing.
        ConfigError: the shape is no multiple of the largest stride.
        WriteError: the folder cannot be written.
    """
    _check_shape(options, max(module.description.strides))
    onnx = import_package("onnx", "export")
    slim = import_package("onnxslim", "export").slim if options.simplify else None
    path = Path(path)
    hw = TRACED_HW if options.is_dynamic else (options.height, options.width)
    images = torch.zeros(1, 3, *hw)
    axes: dict[int, str] = {0: "N"} if options.dynamic_batch else {}
    axes |= {2: "H", 3: "W"} if options.is_dynamic else {}
    names = module.description.output_names()
    dynamic = {INPUT_NAME: axes} | {name: _output_axes(name, options) for name in names}
    with (
        atomic_write(path.with_suffix(".json"), parents=True) as sidecar,
        atomic_write(path) as part,
        warnings.catch_warnings(),
        torch.no_grad(),
    ):
        warnings.simplefilter("ignore")  # on tracing and deprecation: what counts is `verify`
        shapes = [tuple(output.shape) for output in module.eval()(images)]
        torch.onnx.export(
            module,
            (images,),
            str(part),
            input_names=[INPUT_NAME],
            output_names=names,
            dynamic_axes={name: value for name, value in dynamic.items() if value},
            opset_version=options.opset,
            dynamo=False,  # the other exporter writes opset 18 and converts down, with failures
        )
        graph = onnx.load(str(part))
        graph = slim(graph) if slim else graph
        _state_shapes(graph, shapes, dynamic)
        onnx.helper.set_model_props(graph, {METADATA_KEY: module.description.to_json()})
        onnx.checker.check_model(graph, full_check=True)
        onnx.save(graph, str(part))
        sidecar.write_text(module.description.to_json(), encoding="utf-8")


def export_checkpoint(
    config: str | Path,
    checkpoint: str | Path,
    path: str | Path | None,
    options: ExportOptions,
    overwrite: bool = False,
) -> tuple[Path, ExportModule]:
    """Export a checkpoint; the default file is CONFIG.onnx or CONFIG_HxW.onnx in the current folder.

    Returns:
        The file written, and the module to compare it with, in fp32 and on the CPU.

    Raises:
        ConfigError, CheckpointError, DeviceError: see their messages.
        ConfigError: the file or its .json exists, and `overwrite` is False.
    """
    if path is None:
        size = "" if options.is_dynamic else f"_{options.height}x{options.width}"
        path = f"{Path(config).stem}{size}.onnx"
    path = Path(path)
    check_outputs([path, path.with_suffix(".json")], [config, checkpoint], overwrite)
    model = init_detector(config, checkpoint, device="cpu")
    if options.merge_heads and not isinstance(model.bbox_head, SCRFDHead):
        raise ConfigError(f"--merge-heads is for SCRFDHead; this model has {type(model.bbox_head).__name__}")
    description = describe(model, options)
    export_module(ExportModule(suited_copy(model, options), description, options.batch_axis), path, options)
    return path, ExportModule(model, description, options.batch_axis)


def suited_copy(model: SCRFD, options: ExportOptions) -> SCRFD:
    """Return a copy with the arithmetic and the predictors of the file."""
    copied = copy.deepcopy(model)
    if options.merge_heads:
        copied.bbox_head.joins_predictors = True
    return copied.half() if options.half else copied


def _check_shape(options: ExportOptions, stride: int) -> None:
    """Refuse a fixed size that is no multiple of the largest stride; name the nearest ones that are."""
    sides = (options.height, options.width)
    if options.is_dynamic or not any(side % stride for side in sides):
        return
    near = [sorted({max(side // stride, 1) * stride, -(-side // stride) * stride}) for side in sides]
    height, width = (" or ".join(map(str, pair)) for pair in near)
    raise ConfigError(
        f"--shape {sides[0]} {sides[1]}: both must be multiples of {stride}, the largest stride; "
        f"nearest: height {height}, width {width}"
    )


def _output_axes(name: str, options: ExportOptions) -> dict[int, str]:
    """Return the open axes of an output; torch wants each named."""
    if options.with_nms:
        return {0: "faces"}
    batch = {0: "N"} if options.dynamic_batch else {}
    anchors = {int(options.batch_axis): f"A_{name.rpartition('_')[2]}"}
    return batch | (anchors if options.is_dynamic else {})


def _state_shapes(graph: Any, shapes: Sequence[tuple[int, ...]], dynamic: dict[str, dict[int, str]]) -> None:
    """Write the outputs' sizes into the file; where one axis is open, the exporter leaves all of them so."""
    for output, shape in zip(graph.graph.output, shapes, strict=True):
        for axis, size in enumerate(shape):
            dim = output.type.tensor_type.shape.dim[axis]
            if axis in dynamic[output.name]:
                dim.dim_param = dynamic[output.name][axis]
            else:
                dim.dim_value = size


def _class_names(model: SCRFD) -> tuple[str, ...]:
    names, num = tuple(model.CLASSES), model.bbox_head.num_classes
    names = ("face",) if names == ("FG",) else names  # what the published checkpoints call their only class
    return names if len(names) == num else tuple(f"class_{index}" for index in range(num))


def _normalization(dataset_cfg: Any) -> dict[str, Any]:
    """Return mean, std and channels of the Normalize step of a test pipeline."""
    steps = list(dataset_cfg.get("pipeline", ()))
    for step in steps:
        steps += step.get("transforms", ())
        if step.get("type") == "Normalize":
            channels = "RGB" if step.get("to_rgb", True) else "BGR"
            return {
                "mean": tuple(map(float, step["mean"])),
                "std": tuple(map(float, step["std"])),
                "channels": channels,
            }
    logger.warning("the config's test pipeline has no Normalize; assuming mean 127.5, std 128, RGB")
    return {}
