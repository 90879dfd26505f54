"""What the fuzzers feed: for each parser some good inputs, and a function that reads one from a file."""

import contextlib
import http.client
import json
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import mutate
import numpy as np

from mmdet.errors import DataError, MMDetError


class Target(NamedTuple):
    """A parser: `seeds` are good inputs, `read(path)` raises nothing but errors of ours (or `named`).

    Attributes:
        place: the file's name in a folder of its own.
        seeds: good inputs; each is read first, and must be accepted.
        read: reads the file.
        named: further errors that are answers.
        change: makes an input of another one, see mutate.py.
    """

    place: str
    seeds: list[bytes]
    read: Callable[[Path], Any]
    named: tuple[type[Exception], ...] = ()
    change: mutate.Mutator = mutate.text


LABELV2 = (
    b"# a/b.jpg 64 48\n1 2 30 40 5 6 0 7 8 0 9 9 0 1 1 0 2 2 0\n3 3 9 9\n"
    b"# c.png 99 80\n4 4 8 8 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1\n# d.jpg 9 9\n"
)


def label_targets() -> dict[str, Target]:
    """Return one target per label format that the package has; seeds are what its writer makes."""
    from mmdet.datasets.labels import LABEL_READERS, read_as
    from mmdet.datasets.labels.convert import LABEL_WRITERS

    targets = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "l.txt").write_bytes(LABELV2)
        labels = read_as(folder / "l.txt", "labelv2", train=False)
        for form in LABEL_READERS:
            writer, out = LABEL_WRITERS[form], folder / form
            writer.write(labels, out)
            files = sorted(out.rglob("*.*")) if writer.is_folder else [out]
            files = [file for file in files if file.name != "classes.txt"]
            seeds = [file.read_bytes() for file in files]
            place = f"labels/a{files[0].suffix}" if writer.is_folder else "a"
            targets[f"labels {form}"] = Target(place, seeds, _label_reader(form, writer.is_folder))
    return targets


def _label_reader(form: str, is_folder: bool) -> Callable[[Path], Any]:
    """Return a function that reads a label file for evaluation and for training."""
    import cv2

    from mmdet.datasets.labels import read_as
    from mmdet.datasets.labels.prepare import prepare

    def read(path: Path) -> None:
        source = path.parent if is_folder else path
        image = path.with_suffix(".png")
        if form == "yolo" and not image.exists():
            cv2.imwrite(str(image), np.zeros((48, 64, 3), np.uint8))
        labels = read_as(source, form, train=False)
        prepare(labels, source, train=False, min_size=None, filter_empty_gt=True)
        with contextlib.suppress(DataError):  # accepted, though it has no face to train on
            prepare(labels, source, train=True, min_size=None, filter_empty_gt=True)

    return read


SETTINGS: dict[str, Any] = {
    "model": {
        "type": "SCRFD",
        "backbone": {"type": "MobileNetV1", "block_cfg": {"stage_blocks": [2, 3], "stage_planes": [16, 40]}},
        "bbox_head": {"type": "SCRFDHead", "num_classes": 1, "anchor_generator": {"ratios": [1.0]}},
    },
    "data": {
        "samples_per_gpu": 8,
        "train": {"type": "RetinaFaceDataset", "ann_file": "a.txt", "pipeline": [{"type": "RandomFlip"}]},
    },
    "optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9},
    "lr_config": {"policy": "step", "step": [2], "warmup": "linear", "warmup_iters": 5, "warmup_ratio": 0.1},
    "total_epochs": 3,
    "amp": {"level": "O1", "loss_scale": 512.0},
    "evaluation": {"interval": 1, "metric": "widerface"},
}


def text_targets() -> dict[str, Target]:
    """Return options, config files, predictions and descriptions."""
    import yaml

    from mmdet.config import load_config
    from mmdet.config.literals import SAFE
    from mmdet.config.options import parse_options
    from mmdet.deploy.runtime.description import Description
    from mmdet.evaluation.widerface.files import read_predictions

    def options(path: Path) -> None:
        parse_options(path.read_text(encoding="utf-8", errors="replace").split("\n"))

    def predictions(path: Path) -> None:
        read_predictions(path.parent.parent)

    def safely(path: Path) -> None:
        os.environ[SAFE] = "1"
        load_config(path)

    facts = Description((8, 16), 2, 5, nms={"iou_threshold": 0.4, "score_threshold": 0.02})
    settings = json.dumps(SETTINGS, indent=1).encode()
    python = "".join(f"{key} = {value!r}\n" for key, value in SETTINGS.items()).encode()
    anchors = b"a: &x [1, 2]\nb: [*x, *x]\nc: {<<: {d: 1}, e: .5}\n"
    yamls = [yaml.safe_dump(SETTINGS).encode(), anchors + yaml.safe_dump(SETTINGS).encode()]
    given = [b"optimizer.lr=0.02\ndata.train.pipeline.2.crop_choice=[0.5,1]\na=(1,'x')"]
    return {
        "options": Target("a.txt", given, options),
        "configs json": Target("a.json", [settings], load_config),
        "configs yaml": Target("a.yaml", yamls, load_config),
        "configs py --safe": Target("a.py", [python], safely),
        "predictions": Target("event/a.txt", [b"a\n2\n1 2 3 4 0.5\n1 2 3 4 0.25 \n", b"a\n0\n"], predictions),
        "description": Target(
            "a.json",
            [facts.to_json().encode()],
            lambda path: Description.from_json(path.read_text("latin-1")),
            (ValueError,),
        ),
    }


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
    mistakes: list[BaseException] = []  # of the server's threads

    def note(*_: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            mistakes.append(error)

    def read(path: Path) -> None:
        if not address:
            server = web.make_server(detector, "127.0.0.1", 0)  # type: ignore[arg-type]
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            server.handle_error = note  # type: ignore[method-assign]
            address.append(server.server_address)
        with socket.create_connection(address[0], timeout=15) as client:
            with contextlib.suppress(ConnectionError):
                client.sendall(path.read_bytes())
                with contextlib.suppress(OSError):  # the server has closed it
                    client.shutdown(socket.SHUT_WR)
                answer = http.client.HTTPResponse(client)
                with contextlib.suppress(http.client.HTTPException):
                    answer.begin()
                    assert answer.status != 500, answer.status
                    body = answer.read()
                    if "json" in answer.getheader("Content-Type", ""):
                        json.loads(body or b"{}")
                    if answer.status < 400:
                        return
            if mistakes:
                raise mistakes.pop()
            raise MMDetError("refused")

    png = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    post = (
        b"POST /detect?threshold=0.5 HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(png)
        + png
    )
    get = b"GET /about HTTP/1.1\r\nHost: localhost\r\n\r\n"
    return {"http": Target("a.http", [get, post], read)}


def all_targets() -> dict[str, Target]:
    """Return every parser by name."""
    from binaries import binary_targets

    return {**label_targets(), **text_targets(), **binary_targets(), **http_targets()}
