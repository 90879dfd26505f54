"""What the fuzzers feed to the readers of binary files."""

import io
from collections.abc import Iterator
from pathlib import Path

import mutate
import numpy as np
from targets import Target


def binary_targets() -> dict[str, Target]:
    """Return ground truth, checkpoints, ONNX files and images."""
    import cv2
    import torch

    from mmdet.checkpoint.files import pack_weights
    from mmdet.checkpoint.foreign import plain_values, read_foreign
    from mmdet.checkpoint.integrity import sign
    from mmdet.checkpoint.keys import find_weights
    from mmdet.deploy.export.onnx_weights import _read_graph
    from mmdet.deploy.runtime.ort_detector import FaceDetector
    from mmdet.evaluation.widerface.files import read_wider_gt
    from mmdet.evaluation.widerface.matfile import read_mat
    from mmdet.images import read_image, read_image_size

    def checkpoints(path: Path) -> None:
        content = read_foreign(path)
        plain_values(content.get("meta"))
        find_weights(content)

    def ground_truth(path: Path) -> None:
        read_mat(path, ("event_list", "file_list", "face_bbx_list", "gt_list"))
        for name in ("easy", "medium", "hard"):
            link = path.parent / f"wider_{name}_val.mat"
            if not link.exists():
                link.symlink_to(path)
        read_wider_gt(path.parent)

    def detect(path: Path) -> None:
        with FaceDetector(path, provider="cpu", threads=1) as detector:
            detector.detect(black)

    def image(path: Path) -> None:
        try:
            read_image(path)
        finally:
            read_image_size(path)

    weights = {"meta": {"epoch": 1}, "state_dict": {"a.weight": torch.arange(20.0), "b": torch.ones(3, 2)}}
    plain = io.BytesIO()
    torch.save(weights, plain)
    old = io.BytesIO()
    torch.save(weights, old, _use_new_zipfile_serialization=False)
    ours = bytes(pack_weights(weights["state_dict"], {"epoch": 1}))
    black = np.zeros((32, 32, 3), np.uint8)
    pixels = np.random.RandomState(0).randint(0, 256, (64, 96, 3), np.uint8)
    suffixes = (".png", ".jpg", ".bmp", ".webp", ".gif", ".tiff", ".ppm", ".jp2")
    images = [cv2.imencode(suffix, pixels)[1].tobytes() for suffix in suffixes]
    pickled = [plain.getvalue(), old.getvalue(), ours]
    graphs = [onnx_seed()]
    return {
        "ground truth .mat": Target("wider_face_val.mat", list(mat_seeds()), ground_truth, (), mutate.mat),
        "checkpoints": Target("a.pth", pickled, checkpoints, (), mutate.zipped(sign)),
        "onnx weights": Target("a.onnx", [*graphs, *detector_seeds()], _read_graph, (), mutate.onnx),
        "onnx sessions": Target("a.onnx", list(detector_seeds()), detect, (), mutate.onnx),
        "images": Target("a.img", images, image, (), mutate.png),
    }


def mat_seeds() -> Iterator[bytes]:
    """Yield a packed and an unpacked ground-truth file."""
    from scipy.io import savemat

    def cells(*items: object) -> np.ndarray:
        array = np.empty((len(items), 1), object)
        array[:, 0] = items
        return array

    boxes = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    content = {
        "event_list": cells("0--Parade", "x"),
        "file_list": cells(cells("a"), cells("b")),
        "face_bbx_list": cells(cells(boxes), cells(boxes[:1])),
        "gt_list": cells(cells(np.array([[1], [2]], np.uint8)), cells(np.zeros((0, 1)))),
    }
    for is_packed in (True, False):
        buffer = io.BytesIO()
        savemat(buffer, content, do_compression=is_packed)
        yield buffer.getvalue()


def onnx_seed() -> bytes:
    """Return a small graph with convolutions, constants and an Identity."""
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "bbox_head.w")
    scale = numpy_helper.from_array(np.ones((1, 2, 1, 1), np.float32), "scale")
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(2, np.float32))),
        helper.make_node("Identity", ["c"], ["d"]),
        helper.make_node("Conv", ["x", "bbox_head.w", "d"], ["y"]),
        helper.make_node("Mul", ["y", "scale"], ["z"]),
        helper.make_node("Add", ["z", "scale"], ["out"]),
    ]
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 2, 8, 8])
    graph = helper.make_graph(nodes, "g", [images], [out], [weight, scale])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()


def detector_seeds() -> Iterator[bytes]:
    """Yield a detector of two levels for 32 x 32 images, without and with a description."""
    from onnx import TensorProto, helper, numpy_helper

    from mmdet.deploy.runtime.description import METADATA_KEY, Description

    nodes, constants, outputs, kinds = [], [], [], (("score", 2, 1), ("bbox", 8, 4))
    for kind, channels, last in kinds:
        weight = np.full((channels, 3, 1, 1), 0.1, np.float32)
        constants.append(numpy_helper.from_array(weight, f"{kind}_w"))
        constants.append(numpy_helper.from_array(np.array([0, -1, last]), f"{kind}_shape"))
        for stride in (8, 16, 32):
            name = f"{kind}_{stride}"
            nodes.append(
                helper.make_node(
                    "AveragePool", ["image"], [f"{name}_p"], kernel_shape=[stride] * 2, strides=[stride] * 2
                )
            )
            nodes.append(helper.make_node("Conv", [f"{name}_p", f"{kind}_w"], [f"{name}_c"]))
            nodes.append(helper.make_node("Sigmoid", [f"{name}_c"], [f"{name}_s"]))
            nodes.append(helper.make_node("Reshape", [f"{name}_s", f"{kind}_shape"], [name]))
            shape = [1, 2 * (32 // stride) ** 2, last]
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])
    graph = helper.make_graph(nodes, "g", [image], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    yield model.SerializeToString()
    helper.set_model_props(model, {METADATA_KEY: Description((8, 16, 32), 2, 0).to_json()})
    yield model.SerializeToString()
