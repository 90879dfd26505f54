"""A process that hangs is ended and named: alone, among ranks, and when a signal comes."""

import os
import signal
import subprocess
import sys
import time

import pytest

CODE = """
import os, signal, sys, time
from pathlib import Path
from mmdet.engine import watchdog
from mmdet.engine.watchdog import Watchdog
watchdog.FIRST_STEP_S = watchdog.FIRST_BATCH_S = 0.0
watchdog.OBEY_S = watchdog.PAUSED_S = 1.0
place, rank, folder, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
signal.signal(signal.SIGTERM, lambda *_: None)
last = "Last checkpoint: latest.pth"
dog = Watchdog(2.0, rank, Path(folder) if folder else None, lambda: last, lambda: print("saved"))
with dog:
    print("ready", flush=True)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        dog.beat(7, place)
        time.sleep(0.1)
    dog.beat(7, place)
    time.sleep(60)
"""


@pytest.fixture
def start(repo):
    processes = []

    def run(place, rank=0, folder="", seconds=0.0):
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, place, str(rank), str(folder), str(seconds)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=repo,
        )  # fmt: skip
        processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("place", "saved"), [("next(loader)", "saved\n"), ("the step", "")])
def test_a_hung_process_is_ended_with_its_place(start, place, saved):
    process = start(place)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 3 and out == saved
    assert err.startswith("TrainError: no progress for ") and err.count("\n") == 1
    assert f"rank 0 in {place} at iter 7" in err and "Last checkpoint: latest.pth. Stacks of all" in err
    with open(err.split("Stacks of all threads: ")[1].strip().replace("*", "0")) as stacks:
        assert "most recent call first" in stacks.read()


@pytest.mark.parametrize("place", ["next(loader)", "the evaluation"])
def test_a_signal_is_obeyed_while_nothing_moves(start, place):
    process = start(place, seconds=30.0 if place == "the evaluation" else 0.0)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 75 and out == "saved\n" and time.monotonic() - began < 9
    assert err.startswith(f"Interrupted: stopped by a signal in {place} at iter 7") and err.count("\n") == 1


def test_a_stopped_rank_is_named_and_ended_by_the_others(start, tmp_path):
    ranks = [start("the step", rank, tmp_path, seconds=40.0) for rank in range(2)]
    time.sleep(1.5)
    os.kill(ranks[0].pid, signal.SIGSTOP)
    out, err = ranks[1].communicate(timeout=30)
    assert ranks[1].returncode == 3 and out == ""
    assert err.startswith(f"TrainError: rank 0 (process {ranks[0].pid}) has not answered for 1 s: stopped?")
    assert ranks[0].wait(timeout=10) == -signal.SIGKILL


@pytest.mark.slow
def test_ranks_wait_for_the_one_that_goes_on_and_name_the_one_that_does_not(start, tmp_path):
    waiting = start("the step", 0, tmp_path)
    hung = start("next(loader)", 1, tmp_path, seconds=4.0)
    began = time.monotonic()
    _, err = waiting.communicate(timeout=40)
    assert waiting.returncode == 3 and time.monotonic() - began > 4
    assert "rank 1 in next(loader) at iter 7" in err and hung.wait(timeout=20) == 3
    assert "Error" not in hung.stderr.read()


def test_what_goes_on_is_left_alone(start):
    process = start("the step", seconds=5.0)
    time.sleep(4.0)
    assert process.poll() is None


@pytest.mark.slow
def test_a_pause_of_all_ranks_does_not_count(start, tmp_path):
    ranks = [start("the step", rank, tmp_path, seconds=9.0) for rank in range(2)]
    for number, wait_s in ((signal.SIGSTOP, 4.0), (signal.SIGCONT, 3.0)):
        for rank in ranks:
            rank.send_signal(number)
        time.sleep(wait_s)
    assert [rank.poll() for rank in ranks] == [None, None]
    assert all(rank.wait(timeout=20) == 3 for rank in ranks)  # when they really hang
