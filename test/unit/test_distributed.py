"""Reading the launch, the process group's arguments, and one process; two processes: test/dist."""

import os
from datetime import timedelta

import pytest
import torch
from torch import nn

from mmdet import distributed
from mmdet.cli import run_cli
from mmdet.distributed import DistInfo, init_distributed, process_group_arguments, read_launch
from mmdet.errors import ConfigError, DataError, Interrupted, TrainError

CPU = torch.device("cpu")
TORCHRUN = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "MASTER_ADDR": "node0", "MASTER_PORT": "29501"}


def test_alone():
    assert read_launch(environ={}) == DistInfo(rank=0, local_rank=0, world_size=1)


def test_torchrun():
    assert read_launch("pytorch", environ=TORCHRUN) == DistInfo(5, 1, 8, "env://")


def test_torchrun_without_launcher_is_a_mistake_not_eight_trainings():
    with pytest.raises(ConfigError, match="torchrun started 8 processes.*--launcher pytorch"):
        read_launch("none", environ=TORCHRUN)


def test_launcher_without_torchrun():
    with pytest.raises(ConfigError, match="tools/dist_train.sh CONFIG NPROC"):
        read_launch("pytorch", environ={})


def test_the_ascend_folders_arguments():
    info = read_launch(
        local_rank=3, world_size=8, master_addr="10.0.0.1", master_port=29688, npuid=0, environ={}
    )
    assert info == DistInfo(3, 3, 8, "tcp://10.0.0.1:29688")
    info = read_launch(local_rank=0, world_size=2, environ={"MASTER_ADDR": "h", "MASTER_PORT": "1"})
    assert info.init_method == "tcp://h:1"
    assert read_launch(local_rank=0, world_size=1, environ={}) == DistInfo()


def test_wrong_numbers_are_named():
    with pytest.raises(ConfigError, match="--world_size 8 needs --local_rank"):
        read_launch(world_size=8, environ={})
    with pytest.raises(ConfigError, match=r"rank 8 is outside 0..7"):
        read_launch(local_rank=8, world_size=8, environ={})
    with pytest.raises(ConfigError, match="WORLD_SIZE = 'two' is not a whole number"):
        read_launch("pytorch", environ={**TORCHRUN, "WORLD_SIZE": "two"})
    with pytest.raises(ConfigError, match="LOCAL_RANK = None"):
        read_launch("pytorch", environ={"RANK": "0"})


@pytest.mark.parametrize(
    "npuid,environ,expected",
    [
        (None, {}, 0),
        (None, {"ASCEND_DEVICE_ID": "6"}, 6),
        (2, {"ASCEND_DEVICE_ID": "6"}, 2),
        (None, {"ASCEND_DEVICE_ID": "6", "ASCEND_RT_VISIBLE_DEVICES": "6"}, 0),
    ],
)
def test_the_card_of_a_single_process(npuid, environ, expected):
    assert read_launch(npuid=npuid, environ=environ).first_npu == expected


def test_several_processes_count_their_cards_from_zero():
    assert read_launch("pytorch", environ={**TORCHRUN, "ASCEND_DEVICE_ID": "6"}).first_npu == 0
    assert read_launch(local_rank=0, world_size=8, environ={"ASCEND_DEVICE_ID": "0"}).first_npu == 0


class FakeDevice:
    """torch.device("npu") needs torch_npu; only its type is asked for."""

    def __init__(self, type):
        self.type = type


@pytest.mark.parametrize("kind,backend", [("npu", "hccl"), ("cuda", "nccl"), ("cpu", "gloo")])
def test_backend_follows_the_device(kind, backend):
    device = FakeDevice(kind)
    arguments = process_group_arguments(DistInfo(1, 1, 2, "tcp://h:1"), device, {})
    assert arguments["backend"] == backend and (arguments["rank"], arguments["world_size"]) == (1, 2)
    assert arguments["init_method"] == "tcp://h:1"
    assert arguments.get("device_id") is (None if kind == "cpu" else device)


def test_torch_up_to_2_6_is_given_no_npu_to_bind(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.6.0")
    assert "device_id" not in process_group_arguments(DistInfo(0, 0, 2), FakeDevice("npu"), {})
    assert "device_id" in process_group_arguments(DistInfo(0, 0, 2), FakeDevice("cuda"), {})


@pytest.mark.parametrize(
    "environ,seconds",
    [({}, 1800), ({"HCCL_CONNECT_TIMEOUT": "5400"}, 5400), ({"HCCL_CONNECT_TIMEOUT": "600"}, 1800)],
)
def test_our_timeout_is_not_shorter_than_the_librarys(environ, seconds):
    arguments = process_group_arguments(DistInfo(0, 0, 2), CPU, environ)
    assert arguments["timeout"] == timedelta(seconds=seconds)


def test_one_process_is_the_identity_everywhere():
    init_distributed(DistInfo(), CPU)
    tensor, net = torch.tensor([3.0, 4.0]), nn.BatchNorm2d(2)
    assert distributed.mean_across_ranks(tensor) is tensor
    assert distributed.gather_objects("a") == ["a"] == distributed.all_gather_objects("a")
    assert distributed.any_across_ranks(True) and not distributed.any_across_ranks(False)
    assert distributed.wrap_ddp(net, CPU, sync_bn=True) is net
    assert distributed.is_main() and distributed.rank() == 0 and distributed.world_size() == 1
    distributed.broadcast_from_main([tensor])
    distributed.barrier()
    distributed.shutdown()


def raiser(error):
    def main():
        raise error

    return distributed.record_errors(main)


def test_rank_0_tells_what_all_ranks_find(monkeypatch):
    waits = []
    monkeypatch.setattr(distributed.time, "sleep", waits.append)
    for this, expected in (("0", []), ("1", [15.0])):
        monkeypatch.setenv("RANK", this)
        with pytest.raises(DataError, match=f"^rank {this}: bad$"):
            raiser(DataError("bad"))()
        assert waits == expected  # torchrun ends the others meanwhile


def test_errors_name_their_rank(monkeypatch, capsys):
    monkeypatch.setattr(distributed, "MAIN_TELLS_S", 0.0)
    with pytest.raises(DataError, match="^label.txt:3: bad$"):
        raiser(DataError("label.txt:3: bad"))()  # one process: nothing to add
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(DataError, match="^rank 3: label.txt:3: bad$"):
        raiser(DataError("label.txt:3: bad"))()
    with pytest.raises(KeyError):
        raiser(KeyError("x"))()
    assert "rank 3 failed: KeyError: 'x'" in capsys.readouterr().err
    with pytest.raises(TrainError, match="^nan at rank 1$"):
        raiser(TrainError("nan at rank 1"))()  # says it already
    with pytest.raises(Interrupted, match="^saved$"):
        raiser(Interrupted("saved"))()
    assert distributed.record_errors(lambda: 7)() == 7


def test_tools_switch_torchs_autoload_off_unless_told(monkeypatch):
    """With torch-npu installed but CANN absent, `import torch` fails while its autoload is on."""
    monkeypatch.delenv("TORCH_DEVICE_BACKEND_AUTOLOAD", raising=False)
    with pytest.raises(SystemExit):
        run_cli(lambda: 0)
    assert os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] == "0"
    monkeypatch.setenv("TORCH_DEVICE_BACKEND_AUTOLOAD", "1")
    with pytest.raises(SystemExit):
        run_cli(lambda: 0)
    assert os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] == "1"
