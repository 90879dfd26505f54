"""What the fuzzers feed: for each parser some good inputs, and a function that reads one from a file."""

import contextlib
import http.client
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

SHARED_LIMIT = 20_000  # bytes of a seed; longer ones cost time and find no more


class Target(NamedTuple):
    """A parser: `seeds` are good inputs, `read(path)` raises nothing but errors of ours (or `named`)."""

    suffix: str
    seeds: list[bytes]
    read: Callable[[Path], Any]
    named: tuple[type[Exception], ...] = ()


LABELV2 = b"# a/b.jpg 64 48\n1 2 30 40 5 6 0 7 8 0 9 9 0 1 1 0 2 2 0\n3 3 9 9 1\n# c.png 99 80\n4 4 8 8 0\n"
LABELS = {
    "labelv2": [LABELV2],
    "ternaus-json": [
        json.dumps(
            [{"file_name": "a.jpg", "annotations": [{"bbox": [1, 2, 30, 40], "landmarks": [[1, 2]] * 5}]}]
        ).encode()
    ],
    "retinaface-txt": [b"# a/b.jpg\n1 2 30 40 5 6 0 7 8 0 9 9 0 1 1 0 2 2 0 0.9\n"],
}
OTHER_LABELS = [
    LABELV2,
    LABELS["ternaus-json"][0],
    LABELS["retinaface-txt"][0],
    b"<annotation><filename>a.jpg</filename><size><width>9</width><height>9</height></size><object>"
    b"<name>face</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
    b"</object></annotation>",
    b'{"images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}], "categories": '
    b'[{"id": 1, "name": "face"}], "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1,1,3,3]}]}',
    b"a.jpg\n1\n1 2 30 40 0 0 0 0 0 0\n",
    b"a.jpg,1,2,30,40\n",
    b"0 0.5 0.5 0.1 0.1\n",
]


def label_targets() -> dict[str, Target]:
    """Return one target per label format that the package has."""
    from mmdet.datasets.labels import LABEL_READERS, read_labels

    def reader(name: str) -> Callable[[Path], Any]:
        return lambda path: [read_labels(path, name, train=train) for train in (False, True)]

    return {
        f"labels {name}": Target(".txt", LABELS.get(name, OTHER_LABELS), reader(name))
        for name in LABEL_READERS
    }


def text_targets() -> dict[str, Target]:
    """Return options, config files, predictions and descriptions."""
    from mmdet.config import load_config
    from mmdet.config.options import parse_options
    from mmdet.config.pyfile import read_file
    from mmdet.deploy.runtime.description import Description
    from mmdet.evaluation.widerface.files import read_predictions

    def options(path: Path) -> None:
        parse_options(path.read_text(encoding="utf-8", errors="replace").split("\n"))

    def predictions(path: Path) -> None:
        folder = path.parent / "predictions" / "event"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a.txt").write_bytes(path.read_bytes())
        read_predictions(folder.parent)

    def resolved(path: Path) -> None:
        load_config(path)

    facts = Description((8, 16), 2, 5, nms={"iou_threshold": 0.4, "score_threshold": 0.02}).to_json().encode()
    settings = b'{"data": {"samples_per_gpu": 2}, "optimizer": {"type": "SGD", "lr": 0.1}, "total_epochs": 3}'
    yaml = b"data:\n  samples_per_gpu: 2\na: &x [1, 2]\nb: [*x, *x]\noptimizer: {type: SGD, lr: .1}\n"
    python = b'model = dict(type="SCRFD", backbone=dict(type="ResNetV1e"))\nlist = [1, 2.5, None, "x"]\n'
    return {
        "options": Target(
            ".txt", [b"optimizer.lr=0.02\ndata.train.pipeline.2.crop_choice=[0.5,1]\na=(1,'x')"], options
        ),
        "configs json": Target(".json", [settings], resolved),
        "configs yaml": Target(".yaml", [yaml], resolved),
        "configs py": Target(".py", [python], _literal(read_file)),
        "predictions": Target(".txt", [b"a\n2\n1 2 3 4 0.5\n1 2 3 4 0.25 \n"], predictions),
        "description": Target(
            ".json", [facts], lambda p: Description.from_json(p.read_text("latin-1")), (ValueError,)
        ),
    }


def _literal(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Leave out files that call something: a python config is code, and this one would run it."""
    import ast

    def run(path: Path) -> None:
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            tree = ast.parse(path.read_bytes())
            calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
            if any(getattr(call.func, "id", "") != "dict" for call in calls) or "import" in path.read_text(
                "latin-1"
            ):
                return
            if any(
                isinstance(node, ast.While | ast.For | ast.BinOp | ast.comprehension)
                for node in ast.walk(tree)
            ):
                return
        read(path)

    return run


def binary_targets() -> dict[str, Target]:
    """Return ground truth, checkpoints, ONNX files and images."""
    import cv2
    import torch

    from mmdet.checkpoint.files import pack_weights
    from mmdet.checkpoint.foreign import plain_values, read_foreign
    from mmdet.checkpoint.keys import find_weights
    from mmdet.deploy.export.onnx_weights import _read_graph
    from mmdet.deploy.runtime.session import open_model
    from mmdet.evaluation.widerface.files import read_wider_gt
    from mmdet.evaluation.widerface.matfile import read_mat
    from mmdet.images import read_image, read_image_size

    def checkpoints(path: Path) -> None:
        content = read_foreign(path)
        plain_values(content.get("meta"))
        find_weights(content)

    def ground_truth(path: Path) -> None:
        read_mat(path, ("event_list", "file_list", "face_bbx_list", "gt_list"))
        for name in ("face", "easy", "medium", "hard"):
            (path.parent / f"wider_{name}_val.mat").write_bytes(path.read_bytes())
        read_wider_gt(path.parent)

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
    pixels = np.random.RandomState(0).randint(0, 256, (64, 96, 3), np.uint8)
    suffixes = (".png", ".jpg", ".bmp", ".webp", ".gif", ".tiff", ".ppm", ".jp2")
    images = [cv2.imencode(suffix, pixels)[1].tobytes() for suffix in suffixes]
    return {
        "ground truth .mat": Target(".mat", list(mat_seeds()), ground_truth),
        "checkpoints": Target(".pth", [plain.getvalue(), old.getvalue(), ours], checkpoints),
        "onnx weights": Target(".onnx", [onnx_seed()], _read_graph),
        "onnx sessions": Target(".onnx", [onnx_seed()], lambda path: open_model(path, "cpu", 1)),
        "images": Target(".img", images, image),
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


def http_targets() -> dict[str, Target]:
    """Return the page's server: the file is what a client sends."""
    import cv2

    from mmdet.deploy import DetectOptions, Faces
    from mmdet.deploy.web import server as web

    nothing = Faces(np.zeros((0, 5), np.float32), None, np.zeros(0, np.int64))
    detector = SimpleNamespace(
        classes=("face",),
        options=DetectOptions(),
        input_hw=(64, 64),
        find=lambda images, _: [nothing for _ in images],
        model=SimpleNamespace(name="x.onnx", providers=["CPUExecutionProvider"]),
    )
    address: list[Any] = []

    def read(path: Path) -> None:
        if not address:
            server = web.make_server(detector, "127.0.0.1", 0)  # type: ignore[arg-type]
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            address.append(server.server_address)
        with socket.create_connection(address[0], timeout=15) as client:
            with contextlib.suppress(ConnectionError):
                client.sendall(path.read_bytes())
                client.shutdown(socket.SHUT_WR)
                answer = http.client.HTTPResponse(client)
                with contextlib.suppress(http.client.HTTPException):
                    answer.begin()
                    assert answer.status != 500, answer.status
                    json.loads(answer.read() or b"{}") if "json" in answer.getheader(
                        "Content-Type", ""
                    ) else None

    png = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    post = (
        b"POST /detect?threshold=0.5 HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(png)
        + png
    )
    return {"http": Target(".http", [b"GET /about HTTP/1.1\r\nHost: localhost\r\n\r\n", post], read)}


def all_targets() -> dict[str, Target]:
    """Return every parser by name."""
    return {**label_targets(), **text_targets(), **binary_targets(), **http_targets()}
