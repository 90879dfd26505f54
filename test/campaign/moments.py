"""Moments of a run: killed, in bad surroundings, among strangers, bits flipped, a full disk; and guided.py.

Each takes a folder, a seed and limits (seconds, number), and returns counts and "findings", a list of
sentences that should be empty; or yields these again and again, as far as it has got.
"""

import os
import random
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from guided import guided
from kills import finish, kills_at_calls, kills_in_training, start
from strangers import strangers
from surroundings import surroundings


def bit_flips(folder: Path, seed: int, limits: tuple[float, int]) -> dict[str, Any]:  # noqa: ARG001
    """Flip one bit of a checkpoint 100 times: each is named."""
    import torch

    from mmdet.checkpoint import files as checkpoint
    from mmdet.errors import CheckpointError

    path, choose, findings = folder / "a.pth", random.Random(seed), []
    checkpoint.save(path, {"meta": {"epoch": 1}, "state_dict": {"w": torch.randn(200_000)}})
    whole = path.read_bytes()
    for _ in range(100):
        data, bit = bytearray(whole), choose.randrange(8 * len(whole))
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            checkpoint.load(path)
            findings.append(f"bit {bit} passed")
        except CheckpointError:
            pass
    return {"flips": 100, "findings": findings}


def full_disks(folder: Path, seed: int, limits: tuple[float, int]) -> dict[str, Any]:  # noqa: ARG001
    """Allow files of at most n bytes, for many n: an older file stays whole, the error is one of ours."""
    import numpy as np
    import torch

    from mmdet.checkpoint import files as checkpoint
    from mmdet.errors import MMDetError
    from mmdet.evaluation.widerface.files import write_predictions
    from mmdet.evaluation.widerface.mat import write_wider_gt
    from mmdet.files import write_json

    (folder / "l.txt").write_text("# e/a.jpg 64 64\n1 1 40 60\n")
    rows = np.random.RandomState(0).rand(500, 5)
    writers: dict[str, Callable[[Path], None]] = {
        "checkpoint": lambda p: checkpoint.save(p, {"w": torch.arange(5000.0)}),
        "metrics": lambda p: write_json(p, {str(i): 0.5 for i in range(800)}),
        "predictions": lambda p: write_predictions({"e": {"a": rows}}, p.parent),
        "ground truth": lambda p: write_wider_gt(folder / "l.txt", p.parent),
    }
    outputs = {"predictions": "e/a.txt", "ground truth": "wider_face_val.mat"}
    findings, num = [], 0
    for name, write in writers.items():
        target = folder / name.replace(" ", "_") / outputs.get(name, "x.json")
        target.parent.mkdir(parents=True, exist_ok=True)
        path = target if name in ("checkpoint", "metrics") else folder / name.replace(" ", "_") / "x"
        write(path)
        whole = target.read_bytes()
        for limit in (0, 1, 100, len(whole) // 2, len(whole) - 1):

            def work(limit: int = limit, write: Callable[[Path], None] = write, path: Path = path) -> None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                try:
                    write(path)
                except MMDetError as error:
                    os._exit(2 if "\n" not in str(error) else 4)
                except BaseException:
                    os._exit(5)
                os._exit(0)

            code = finish(start(work))
            num += 1
            if code != 2 or target.read_bytes() != whole:
                findings.append(f"{name}, {limit} bytes: exit {code}, intact: {target.read_bytes() == whole}")
            findings += [f"{name}: left {p.name}" for p in target.parent.glob(".*tmp*")]
    return {"writes": num, "findings": findings}


Found = dict[str, Any] | Iterator[dict[str, Any]]

MOMENTS: dict[str, Callable[[Path, int, tuple[float, int]], Found]] = {
    "kills at calls": kills_at_calls,
    "bit flips": bit_flips,
    "full disks": full_disks,
    "surroundings": surroundings,
    "strangers": strangers,
    "kills in training": kills_in_training,
    "guided": guided,
}
