"""What the simulator says where it cannot work, and the stubs it makes; needs no torch_npu."""

import importlib.util
import subprocess
from types import SimpleNamespace

import pytest

from mmdet.errors import DeviceError
from mmdet.testing.ascend_sim import build


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_without_the_wheel_the_message_says_how_to_get_it(machine, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(build.platform, "system", lambda: "Linux")
    monkeypatch.setattr(build.platform, "machine", lambda: machine)
    with pytest.raises(DeviceError, match=r"needs the torch-npu wheel: pip install -e '\.\[npu-sim\]'"):
        build.build()


@pytest.mark.parametrize(
    ("system", "machine"), [("Darwin", "arm64"), ("Windows", "AMD64"), ("Linux", "riscv64")]
)
def test_where_no_wheel_exists_the_message_names_both_machines(system, machine, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(build.platform, "system", lambda: system)
    monkeypatch.setattr(build.platform, "machine", lambda: machine)
    expected = f"for Linux x86_64 and Linux aarch64 only; this is {system} {machine}. "
    with pytest.raises(DeviceError, match=expected):
        build.build()


def test_a_cuda_build_of_torch_is_refused(monkeypatch, tmp_path):
    text = "__version__ = '2.13.0+cu130'\ndebug = False\ncuda: Optional[str] = '13.0'\nhip = None\n"
    (tmp_path / "version.py").write_text(text)
    monkeypatch.setattr(build, "find_torch_npu", lambda: tmp_path)
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(DeviceError, match=r"torch 2.13.0\+cu130 is a CUDA build.* torch==2.13.0\+cpu"):
        build.build(tmp_path)
    (tmp_path / "version.py").write_text(text.replace("'13.0'", "None"))
    monkeypatch.setattr(build.shutil, "which", lambda tool: None)
    with pytest.raises(DeviceError, match="needs gcc"):
        build.build(tmp_path)


def test_without_gcc_the_message_names_it(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "find_torch_npu", lambda: tmp_path)
    monkeypatch.setattr(build.shutil, "which", lambda tool: None)
    with pytest.raises(DeviceError, match="needs gcc; install gcc and binutils"):
        build.build(tmp_path)


def test_a_stub_fails_with_its_own_name(tmp_path):
    if build.shutil.which("gcc") is None:
        pytest.skip("no gcc")
    source = tmp_path / "stubs.c"
    caller = "int main(void) { return aclrtNoSuchThing() == ACL_UNSUPPORTED ? 0 : 1; }"
    source.write_text(build._stub_source(["aclrtNoSuchThing"]) + caller)
    program = tmp_path / "program"
    sources = [str(source), *map(str, build.CSRC.glob("*.c"))]
    subprocess.run(["gcc", f"-I{build.CSRC}", "-o", str(program), *sources, "-lpthread", "-lrt"], check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == "ascend_sim: aclrtNoSuchThing is not simulated\n"
