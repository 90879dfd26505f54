"""Moments of a run: killed at each call of a write, killed in training, bits flipped, a full disk.

Each returns counts and "findings", a list of sentences that should be empty.
"""

import multiprocessing
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CALLS = ("open", "fsync", "replace", "unlink", "close")  # of os, each a place to die at


def _fork(work: Callable[[], None]) -> int:
    """Run `work` in a forked process; return its exit code, negative for a signal.

    On one thread: a fork does not copy the threads of an operator, and the child would wait for them.
    """
    import torch

    torch.set_num_threads(1)
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert child.exitcode is not None
    return child.exitcode


def kills_in_a_write(folder: Path, seed: int, budget_s: float) -> dict[str, Any]:  # noqa: ARG001
    """Die before the n-th call of a checkpoint's write, for every n: the old or the new file is there."""
    import torch

    from mmdet.checkpoint import files as checkpoint

    path, findings, num = folder / "a.pth", [], 0
    for number in range(1, 40):
        checkpoint.save(path, {"epoch": 1, "w": torch.arange(50_000.0)})

        def work(number: int = number) -> None:
            left = [number]

            def dying(call: Callable[..., Any]) -> Callable[..., Any]:
                def run(*args: Any, **kwargs: Any) -> Any:
                    left[0] -= 1
                    if not left[0]:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return call(*args, **kwargs)

                return run

            for name in CALLS:
                setattr(os, name, dying(getattr(os, name)))
            checkpoint.save(path, {"epoch": 2, "w": torch.arange(60_000.0)})

        code = _fork(work)
        num += code == -signal.SIGKILL
        found = checkpoint.load(path)
        if found["epoch"] not in (1, 2) or len(found["w"]) != (50_000 if found["epoch"] == 1 else 60_000):
            findings.append(f"killed at call {number}: {found['epoch']}, {len(found['w'])}")
        if code == 0:
            break
    return {"kills": num, "findings": findings}


def bit_flips(folder: Path, seed: int, budget_s: float) -> dict[str, Any]:  # noqa: ARG001
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


def full_disks(folder: Path, seed: int, budget_s: float) -> dict[str, Any]:  # noqa: ARG001
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

            code = _fork(work)
            num += 1
            if code != 2 or target.read_bytes() != whole:
                findings.append(f"{name}, {limit} bytes: exit {code}, intact: {target.read_bytes() == whole}")
            findings += [f"{name}: left {p.name}" for p in target.parent.glob(".*tmp*")]
    return {"writes": num, "findings": findings}


def kills_in_training(folder: Path, seed: int, budget_s: float) -> dict[str, Any]:
    """Kill -9 a training at random moments until the time is over; its end is that of one never killed."""
    from runs import assert_same_state, make_options, train

    from mmdet.datasets.toy.faces import write_toy_faces

    repo, choose, num = Path(__file__).resolve().parents[2], random.Random(seed), 0
    write_toy_faces(folder / "data", 10, 3, seed=1, size=(128, 160))
    settings = ["total_epochs=3", "checkpoint_config.interval_iters=1"]
    quiet = {"validate": False}
    whole = make_options(repo, folder / "data", folder / "whole", *settings, **quiet)
    torn = make_options(repo, folder / "data", folder / "torn", *settings, resume_from="auto", **quiet)
    start = time.monotonic()
    assert _fork(lambda: _quietly(train, whole)) == 0
    one_s = time.monotonic() - start
    context, findings = multiprocessing.get_context("fork"), []
    while time.monotonic() - start < budget_s - one_s:
        child = context.Process(target=_quietly, args=(train, torn))
        child.start()
        child.join(choose.uniform(0.2, 1.2) * one_s)
        num += child.is_alive()
        child.kill()
        child.join()
        if child.exitcode not in (0, -signal.SIGKILL):
            findings.append(f"a resumed run ended with {child.exitcode}")
            break
    if _fork(lambda: _quietly(train, torn)) != 0:
        findings.append("the last run failed")
    try:
        assert_same_state(folder / "whole/latest.pth", folder / "torn/latest.pth")
    except AssertionError as error:
        findings.append(f"another state: {error}")
    return {"kills": num, "findings": findings}


def _quietly(work: Callable[[Any], Any], argument: Any) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    work(argument)


MOMENTS: dict[str, Callable[[Path, int, float], dict[str, Any]]] = {
    "kills in a write": kills_in_a_write,
    "bit flips": bit_flips,
    "full disks": full_disks,
    "kills in training": kills_in_training,
}
