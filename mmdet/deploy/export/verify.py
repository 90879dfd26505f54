"""Compare an ONNX file with the module it came from, over shapes and batches."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mmdet.deploy.export.export_onnx import ExportModule, ExportOptions
from mmdet.deploy.runtime.description import Description
from mmdet.deploy.runtime.session import open_model
from mmdet.errors import CheckpointError, ConfigError

# Half precision has 11 bits: a box of 20 strides cannot be known to better than 0.01 of one, and errors of
# the layers add up. Measured with published weights: scores 0.003, distances 0.09 strides.
TOLERANCE = {"fp32": {"score": 1e-4, "distance": 1e-4}, "fp16": {"score": 0.02, "distance": 0.2}}
# Beyond it errors are relative: fp32 has 7 digits, and a model after 20 iterations may say 11,095 strides.
LARGE = 100.0
DYNAMIC_HW = ((640, 640), (320, 480), (608, 352))


@dataclass(frozen=True)
class Parity:
    """How far the outputs are apart for one input.

    Attributes:
        shape: N, 3, H, W of the input.
        score: max abs error of the probabilities.
        distance: of boxes and keypoints, in strides (with NMS inside the graph: pixels / largest stride); of
            an output with values beyond LARGE, divided by the largest of them / LARGE.
        largest: magnitude of such an output, in the same unit.
        detail: what else differs ("" if nothing).
        num_faces: compared, with NMS inside the graph; None without.
    """

    shape: tuple[int, ...]
    score: float
    distance: float
    detail: str = ""
    num_faces: int | None = None
    largest: float = 0.0

    def fits(self, precision: str) -> bool:
        """Return whether the errors are allowed."""
        allowed = TOLERANCE[precision]
        return not self.detail and self.score <= allowed["score"] and self.distance <= allowed["distance"]


def verify(
    path: str | Path, module: ExportModule, options: ExportOptions, sizes_hw: tuple[tuple[int, int], ...] = ()
) -> list[Parity]:
    """Run both on the same pictures of noise and blocks.

    Args:
        path: the file.
        module: what it was exported from.
        options: as it was exported; says which shapes and batches to try.
        sizes_hw: heights and widths for a graph that leaves them open; default three of different shape.

    Returns:
        One entry per shape.

    Raises:
        CheckpointError: an error is above the tolerance (1e-4; see Parity.distance), or shapes differ.
        ConfigError: fp16 with NMS inside, where faces near the thresholds come and go.
    """
    if options.half and options.with_nms:
        raise ConfigError("--verify cannot compare --fp16 --with-nms; verify without --with-nms first")
    model = open_model(path, "cpu")
    sizes = (sizes_hw or DYNAMIC_HW) if options.is_dynamic else ((options.height, options.width),)
    batches = (1, 3) if options.dynamic_batch else (1,)
    results = []
    for number, (batch, hw) in enumerate((batch, hw) for hw in sizes for batch in batches):
        images = make_images(batch, hw, seed=number)
        with torch.no_grad():
            want = [output.float().numpy() for output in module(torch.from_numpy(images))]
        results.append(_compare(images.shape, want, model.run(images), module.description))
        parity = results[-1]
        if not parity.fits(module.description.precision):
            values = f"scores by {parity.score:.3g}, distances by {parity.distance:.3g} strides"
            if parity.largest > LARGE:
                values += f" relative to values of {parity.largest:.3g} / {LARGE:g}"
            raise CheckpointError(
                f"{path} disagrees with torch at input {parity.shape}: {parity.detail or values}; "
                f"allowed {TOLERANCE[module.description.precision]}"
            )
    return results


def make_images(batch: int, hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Return (N, 3, H, W) float32 in [-1, 1]: coarse blocks under noise, so that no layer sees only zeros."""
    rng = np.random.RandomState(seed)
    coarse = rng.uniform(-1, 1, (batch, 3, -(-hw[0] // 32), -(-hw[1] // 32)))
    blocks = coarse.repeat(32, axis=2).repeat(32, axis=3)[:, :, : hw[0], : hw[1]]
    return (0.7 * blocks + 0.3 * rng.uniform(-1, 1, (batch, 3, *hw))).astype(np.float32)


def _compare(
    shape: tuple[int, ...], want: list[np.ndarray], got: list[np.ndarray], description: Description
) -> Parity:
    shapes = [[tuple(array.shape) for array in arrays] for arrays in (want, got)]
    if shapes[0] != shapes[1]:
        return Parity(shape, np.inf, np.inf, f"output shapes {shapes[1]}, torch gives {shapes[0]}")
    worst = {"score": 0.0, "distance": 0.0, "largest": 0.0}
    unit = 1.0
    if description.nms is not None:
        unit = max(description.strides)
        match = _match(want, got)
        got = [array[match] for array in got]
    for name, a, b in zip(description.output_names(), want, got, strict=True):
        for whose, values in (("torch", a), ("the file", b)):
            if num_bad := int((~np.isfinite(values)).sum()):
                detail = f"{num_bad} of {values.size} values of {whose}'s output {name} are not finite"
                return Parity(shape, np.inf, np.inf, detail)
        error = float(np.abs(a - b).max(initial=0.0))
        if name.startswith(("bbox", "kps")):
            largest = float(np.abs(a).max(initial=0.0)) / unit
            worst["distance"] = max(worst["distance"], error / unit / max(1.0, largest / LARGE))
            worst["largest"] = max(worst["largest"], largest)
        else:
            worst["score"] = max(worst["score"], error)
    num_faces = None if description.nms is None else len(want[0])
    score, distance, largest = worst.values()
    return Parity(shape, score, distance, num_faces=num_faces, largest=largest)


def _match(want: list[np.ndarray], got: list[np.ndarray]) -> np.ndarray:
    """Return, for each face of `want`, the index of the same face of `got`.

    Faces come best first, so a difference in the last bit of a score may exchange two of them.
    """
    rows = []
    for bboxes, _, labels, image in (want[:4], got[:4]):
        rows.append(np.concatenate((bboxes, 1e6 * np.stack((labels, image), axis=1)), axis=1))
    distance = np.abs(rows[0][:, None] - rows[1][None]).max(axis=-1)  # (M, M)
    match = distance.argmin(axis=1) if len(distance) else np.zeros(0, np.int64)
    return match if len(set(match)) == len(match) else np.arange(len(match))
