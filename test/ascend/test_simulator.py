"""The stand-in CANN libraries under the real torch_npu wheel: what a card does, and how it fails."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from mmdet.testing.ascend_sim.build import CSRC

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def card(simulator):
    return simulator.probe("runtime", TORCH_NPU_FALLBACK_CPU_DISABLE="0")


@pytest.fixture(scope="module")
def strict_card(simulator):
    """Return the report of a card without fallbacks, whose memory blocks grow."""
    settings = {
        "TORCH_NPU_FALLBACK_CPU_DISABLE": "1",
        "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True",
    }
    return simulator.probe("runtime", options=["--strict"], **settings)


@pytest.fixture(scope="module")
def saturating_card(simulator):
    return simulator.probe("runtime", "short", options=["--chip", "910A"])


@pytest.fixture(scope="module")
def ranks(simulator):
    return simulator.probe("hccl", ranks=3, devices=3)["ranks"]


# ---- one card -------------------------------------------------------------------------------


def test_cards_are_counted_and_named(card):
    assert (card["count"], card["name"]) == (2, "Ascend910B1")
    assert "this host has 2 cards" in card["stderr"] and "error" in card["no_such_card"]


def test_arithmetic_gives_the_cpus_bits(card):
    assert card["rounding"] == {"torch.float32": True, "torch.float16": True, "torch.bfloat16": True}
    assert card["losses_equal"]


@pytest.mark.parametrize("which", ["card", "strict_card"])
def test_memory_is_counted_and_taken_only_when_touched(which, request):
    report = request.getfixturevalue(which)
    assert 4 * 2**20 <= report["allocated"] < 4 * 2**20 + 4096
    assert report["freed"] == 0
    assert report["huge"] == 6.0


@pytest.mark.parametrize("which", ["card", "strict_card"])
def test_out_of_memory_names_both_sizes(which, request):
    oom = request.getfixturevalue(which)["oom"]
    assert "OutOfMemoryError" in oom
    assert "Tried to allocate 40.00 GiB" in oom and "64.00 GiB total capacity" in oom


def test_blocks_grow_where_asked_and_give_their_memory_back(card, strict_card):
    assert (card["grows"], strict_card["grows"]) == (False, True)
    for report in (card, strict_card):
        assert report["used_mib"] == report["reserved_mib"] < 64


def test_random_numbers_follow_the_cards_generator(card):
    assert card["same_seed"] and card["same_state"] and card["host_stream_untouched"]


def test_events_measure_time(card):
    assert 45 < card["event_ms"] < 500


def test_layouts_are_those_of_torch_npu(card):
    assert card["strides"] == [[1, 3], [4, 1]]
    assert "contiguous_format" in card["channels_last"]  # refused by torch_npu itself


def test_a_double_becomes_a_float_on_the_card(card):
    assert card["double_on_card"] == "torch.float32"
    assert "do not support double" in card["stderr"]


def test_pinned_memory_reaches_the_card(card):
    assert card["pinned"] == [True, 3.0]


def test_tensors_of_different_devices_do_not_mix(card):
    assert "npu:0 and cpu" in card["mixed_host"]
    assert "npu:0 and npu:1" in card["mixed_cards"]


def test_a_scalar_or_an_index_may_stay_on_the_host(card):
    assert card["host_scalar"] == 66.0 + 12.0
    assert card["host_index"] == [[3.0, 4.0, 5.0]]


def test_an_operator_that_is_not_simulated_says_its_name(card):
    assert "PSROIPooling" in card["unknown_compiled"]


def test_an_operator_torch_npu_lacks_falls_back_with_a_warning(card):
    assert card["fallback"] == "no error" and card["eigh"] == "no error"
    for name in ("lgamma.out", "_linalg_eigh.eigenvalues", "_fused_adam_"):
        assert f"'aten::{name}' is not currently supported on the NPU backend" in card["stderr"]


def test_fallbacks_are_counted_and_listed_at_the_end(card):
    assert abs(card["fused_adam"] - 0.5) < 1e-6
    planted = {"aten::lgamma.out": 3, "aten::_linalg_eigh.eigenvalues": 1, "aten::_fused_adam_": 1}
    assert card["fallbacks"] == planted
    last = card["stderr"].strip().splitlines()[-1]
    assert last.startswith("ascend_sim: 5 calls fell back to the CPU: aten::lgamma.out 3x, aten::_")


def test_a_process_without_fallbacks_says_nothing_of_them(saturating_card):
    assert "fell back" not in saturating_card["stderr"]


def test_a_fallback_is_an_error_where_it_is_disabled(strict_card):
    assert "_linalg_eigh" in strict_card["eigh"] and "CPU fallback is disabled" in strict_card["eigh"]
    assert "lgamma" in strict_card["fallback"] and "CPU fallback is disabled" in strict_card["fallback"]
    assert not {"aten::lgamma.out", "aten::_linalg_eigh.eigenvalues"} & set(strict_card["fallbacks"])


# ---- kinds of chip --------------------------------------------------------------------------


def test_an_a2_convolves_fp32_in_hf32_unless_told_otherwise(card):
    assert card["hf32"] == 1.0 and card["convolved"] == (1 + 2**-13) * (1 + 2**-9)
    assert card["sorted"] == [1, 0]


def test_a_910a_convolves_and_sorts_fp32_in_fp16(saturating_card):
    assert saturating_card["hf32"] == 1.0 and saturating_card["convolved"] == 1 + 2**-9
    assert saturating_card["sorted"] == [0, 1]  # a tie in fp16


def test_bfloat16_is_refused_where_the_chip_has_none(card, saturating_card):
    assert card["bf16"] == [True, "no error"]
    supported, error = saturating_card["bf16"]
    assert not supported and "Ascend910A has no bfloat16" in error


def test_what_the_ai_cpu_computes_is_counted_and_listed(card, saturating_card):
    on_ai_cpu = {"aten::__lshift__.Scalar": 1, "aten::sort": 1}
    assert card["counts"][0] == on_ai_cpu
    assert saturating_card["counts"][0] == on_ai_cpu | {"aten::copy_": 1}  # int64 to fp32
    assert "calls ran on the AI CPU: aten::" in card["stderr"]


def test_a_copy_to_the_host_inside_a_kernel_is_counted(card):
    assert card["counts"][1] == {"aten::scatter_reduce.two": 1} and card["inside_host"] == "no error"
    assert "1 calls copied to the host inside their kernels: aten::scatter_reduce.two" in card["stderr"]


def test_a_copy_to_the_host_inside_a_kernel_is_an_error_in_strict_mode(strict_card):
    assert "kernel of aten::scatter_reduce.two copies to the host and back" in strict_card["inside_host"]


# ---- overflow -------------------------------------------------------------------------------


def test_fp16_overflows_to_inf(card):
    assert card["inf_nan"] is True
    assert card["overflow"] == ["inf", "inf", "nan", "nan"]
    assert card["cast_overflow"] == "inf"


def test_a_910a_saturates(saturating_card):
    assert (saturating_card["name"], saturating_card["inf_nan"]) == ("Ascend910A", False)
    assert saturating_card["overflow"] == ["65504.0", "65504.0", "0.0", "0.0"]
    assert saturating_card["cast_overflow"] == "65504.0"


@pytest.mark.parametrize("which", ["card", "saturating_card"])
def test_the_scaler_skips_until_the_gradient_fits(which, request):
    steps = request.getfixturevalue(which)["steps"]
    # 4 * scale must stay under 65504: refused at 2^16, 2^15, 2^14, taken at 2^13 (weight - 4 / 2^14).
    assert steps == [[2.0**15, 1.0], [2.0**14, 1.0], [2.0**13, 1.0], [2.0**13, 1 - 4 / 2**14]]


# ---- several cards --------------------------------------------------------------------------


def test_all_reduce_agrees_with_gloo_in_every_type(ranks):
    assert [r["wrong"] for r in ranks] == [[], [], []]


def test_collectives_agree_with_gloo(ranks):
    assert [r["differ"] for r in ranks] == [[], [], []]


def test_collectives_gloo_does_not_have(ranks):
    for number, result in enumerate(ranks):
        assert result["gather_v"] == [[0.0], [1.0, 1.0], [2.0, 2.0, 2.0]]
        # every rank sends (0..5) * (rank + 1): the sum is (0..5) * 6, two elements each
        assert result["reduce_scatter"] == [12.0 * number, 12.0 * number + 6]
        assert result["mean"] == [1.0, 1.0]


def test_a_dead_rank_fails_the_others_in_time_and_by_number(simulator, tmp_path):
    port, world = "29717", 3
    command = simulator.command(simulator.python, "test/ascend/probes/lost_rank.py", devices=world)
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world)}
    started = [
        subprocess.Popen(
            command,
            env=simulator.environment(RANK=str(r), LOCAL_RANK=str(r), HCCL_EXEC_TIMEOUT="3", **environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for r in range(world)
    ]
    started[1].wait(timeout=300)
    begin = time.monotonic()
    outputs = [process.communicate(timeout=300)[0] for process in started]
    assert time.monotonic() - begin < 60
    assert [process.returncode != 0 for process in started] == [True, True, True]
    for rank in (0, 2):
        assert "EI0002" in outputs[rank] and "missing rank: 1 (process is gone)" in outputs[rank]
        assert "nobody noticed" not in outputs[rank]


@pytest.mark.parametrize(("visible", "num"), [("1,3", 2), ("2", 1), ("0,9,1", 1), ("", 0)])
def test_only_visible_cards_are_there(visible, num, tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    source = tmp_path / "count.c"
    source.write_text(
        "#include <stdint.h>\nint aclrtGetDeviceCount(uint32_t *);\n"
        "int main(void) { uint32_t n; aclrtGetDeviceCount(&n); return (int)n; }\n"
    )
    program = tmp_path / "count"
    subprocess.run(["gcc", "-o", program, source, CSRC / "runtime.c", "-lpthread"], check=True)
    done = subprocess.run([program], env={"ASCEND_SIM_DEVICES": "4", "ASCEND_RT_VISIBLE_DEVICES": visible})
    assert done.returncode == num


# ---- what is missing, in one line ------------------------------------------------------------

AUDIT = ("tools/npu_audit.py", "configs/scrfd/scrfd_500m.py", "--device", "npu")


def test_without_cann_the_library_is_named(simulator):
    environment = simulator.environment()  # torch is free to load torch_npu by itself
    done = subprocess.run(
        [simulator.python, *AUDIT], cwd=REPO, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    expected = (
        "DeviceError: device npu: torch_npu failed to import (libhccl.so: not found). Source CANN's "
        "set_env.sh, or pass --device cpu."
    )
    assert done.stderr.strip() == expected


def test_a_folder_of_cann_that_is_not_there_is_named(simulator):
    done = simulator.run(simulator.python, *AUDIT, ASCEND_HOME_PATH="/no/such/cann")
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("DeviceError")]
    assert len(lines) == 1 and "(ASCEND_HOME_PATH : /no/such/cann does not exist." in lines[0]
    assert lines[0].endswith("Source CANN's set_env.sh, or pass --device cpu.")
    assert "Traceback" not in done.stderr


def test_without_a_card_the_message_says_where_to_look(simulator):
    done = simulator.run(simulator.python, *AUDIT, devices=0)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("DeviceError: device npu: torch_npu finds no NPU. Does npu-smi info list one?")
    assert "Traceback" not in done.stderr


def test_auto_takes_a_card_even_where_cuda_was_redirected_to_it(simulator):
    code = (
        "import torch, torch_npu; from torch_npu.contrib import transfer_to_npu;"
        "from mmdet.device import pick_device;"
        "print(torch.cuda.is_available(), pick_device('auto'), pick_device('npu', 1))"
    )
    done = simulator.run(simulator.python, "-c", code)
    assert done.stdout.strip().splitlines()[-1:] == ["True npu:0 npu:1"], done.stderr[-2000:]


# ---- the command ----------------------------------------------------------------------------


def test_an_unknown_chip_is_refused(simulator):
    done = simulator.run("true", options=["--chip", "910C"])
    assert done.returncode == 2
    assert done.stderr.startswith("ConfigError: chip = '910C' is unknown; did you mean '910")


def test_a_command_that_does_not_exist_is_refused(simulator):
    done = simulator.run("no-such-program")
    assert done.returncode == 2
    assert "no-such-program" in done.stderr and "Traceback" not in done.stderr


def test_the_exit_code_is_the_commands(simulator):
    assert simulator.run("sh", "-c", "exit 7").returncode == 7
