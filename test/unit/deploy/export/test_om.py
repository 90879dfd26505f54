"""tools/onnx2om.sh: what it refuses, the command it prints, and what it makes of a stand-in for atc."""

import os
import subprocess
import sys

import onnx
import pytest
from onnx import TensorProto, helper

from mmdet.deploy.export.om_check import check_for_atc
from mmdet.errors import CheckpointError, ConfigError

FAKE_ATC = """#!/bin/sh
printf '%s\\n' "$@" > "$0.arguments"
case "$FAKE" in
  fails) echo "E10001: unsupported operator" >&2; exit 1 ;;
  silent) exit 0 ;;
esac
for argument; do case "$argument" in --output=*) echo om > "${argument#--output=}.om" ;; esac; done
"""


def make_onnx(path, dims=(1, 3, 640, 640), opset=17, op="Relu", old_style=False):
    graph_input = helper.make_tensor_value_info("input.1", TensorProto.FLOAT, dims)
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [1], [1.0])
    inputs = [helper.make_tensor_value_info("weight", TensorProto.FLOAT, [1]), graph_input]
    nodes = [helper.make_node(op, ["input.1"], ["y"])]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", inputs if old_style else [graph_input], [output], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]), str(path))
    return str(path)


@pytest.mark.parametrize("dims", [(1, 3, 640, 640), (1, 3, "H", "W"), ("N", 3, None, None)])
@pytest.mark.parametrize("old_style", [False, True])
def test_the_input_is_found(tmp_path, dims, old_style):
    path = make_onnx(tmp_path / "a.onnx", dims, opset=11, old_style=old_style)
    assert check_for_atc(path, (1, 3, 640, 640)) == "input.1"


@pytest.mark.parametrize(
    ("change", "shape", "text"),
    [
        ({"opset": 18}, (1, 3, 640, 640), "opset 18; export it with --opset 17 or lower"),
        ({}, (1, 3, 480, 640), "takes 1 x 3 x 640 x 640, not 1 x 3 x 480 x 640; give its own"),
        ({}, (8, 3, 640, 640), "not 8 x 3 x 640 x 640"),
        ({"dims": (1, 3, "H", "W")}, (4, 3, 640, 640), "takes 1 x 3 x any x any"),
        ({"dims": (1, 3, "H", "W")}, (1, 3, 640, 500), "--shape 640 500: both must be multiples of 32"),
        ({"op": "NonMaxSuppression"}, (1, 3, 640, 640), "export without --with-nms"),
    ],
)
def test_what_atc_could_not_convert_is_refused(tmp_path, change, shape, text):
    path = make_onnx(tmp_path / "a.onnx", **change)
    with pytest.raises(ConfigError, match=text):
        check_for_atc(path, shape)


@pytest.mark.parametrize("content", [b"", b"no protobuf at all"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match="a.onnx (cannot be read as an ONNX file|is no detector)"):
        check_for_atc(str(tmp_path / "a.onnx"), (1, 3, 640, 640))


@pytest.fixture
def run(repo, tmp_path):
    """Return a function that runs the script with a stand-in for atc first on the PATH."""
    folder = tmp_path / "bin with space"
    folder.mkdir()
    (folder / "atc").write_text(FAKE_ATC)
    (folder / "atc").chmod(0o755)

    def run_script(*args, fake="", atc=True, python=sys.executable):
        path = f"{folder}:/usr/bin:/bin" if atc else "/usr/bin:/bin"
        environment = {**os.environ, "PATH": path, "FAKE": fake, "PYTHON": python}
        command = ["bash", str(repo / "tools" / "onnx2om.sh"), *map(str, args)]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60
        )

    run_script.arguments = folder / "atc.arguments"
    return run_script


def test_dry_run_prints_the_command_and_needs_no_atc(run, tmp_path):
    make_onnx(tmp_path / "my model.onnx", ("N", 3, "H", "W"))
    done = run("my model.onnx", "out.om", "--shape", 480, 640, "--batch", 8, "--dry-run", atc=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("--", 1) == [
        "atc ",
        "framework=5 --model=my\\ model.onnx --output=out --input_format=NCHW "
        "--input_shape=input.1:8\\,3\\,480\\,640 --soc_version=Ascend310P3 --precision_mode=force_fp16 "
        "--log=error \n",
    ]
    assert os.listdir(tmp_path / "bin with space") == ["atc"] and not (tmp_path / "out.om").exists()


def test_a_python_without_the_packages_is_said(run, tmp_path):
    make_onnx(tmp_path / "a.onnx")
    (tmp_path / "bare").write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')  # -S: no site-packages
    (tmp_path / "bare").chmod(0o755)
    for python in (str(tmp_path / "bare"), str(tmp_path / "none")):
        done = run("a.onnx", "out", "--dry-run", python=python)
        want = f"onnx2om: {python} cannot import numpy, cv2 and onnx; set PYTHON="
        assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith(want), done.stderr
        assert done.stderr.count("\n") == 1


def test_atc_gets_the_arguments_and_the_file_is_named(run, tmp_path):
    make_onnx(tmp_path / "a.onnx")
    done = run("a.onnx", "out", "--soc", "Ascend910B4", "--fp32")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "wrote out.om (Ascend910B4, must_keep_origin_dtype, 1x3x640x640)\n"
    assert run.arguments.read_text().splitlines() == [
        "--framework=5",
        "--model=a.onnx",
        "--output=out",
        "--input_format=NCHW",
        "--input_shape=input.1:1,3,640,640",
        "--soc_version=Ascend910B4",
        "--precision_mode=must_keep_origin_dtype",
        "--log=error",
    ]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "give MODEL.onnx and OUT"),
        (("no.onnx", "out"), "no.onnx: no such file"),
        (("a.onnx", "no/out"), "no: no such folder"),
        (("a.onnx", "out", "--shape", "640"), "--shape needs a height and a width"),
        (("a.onnx", "out", "--shape", "640", "-1"), "'-1' is not a positive whole number"),
        (("a.onnx", "out", "--batch", "0"), "'0' is not a positive whole number"),
        (("a.onnx", "out", "--int8"), "unknown option --int8"),
        (("a.onnx", "out", "--batch", "2"), "takes 1 x 3 x 640 x 640, not 2 x 3 x 640 x 640"),
    ],
)
def test_mistakes_are_one_line_and_code_2(run, tmp_path, args, text):
    make_onnx(tmp_path / "a.onnx")
    done = run(*args)
    assert done.returncode == 2 and text in done.stderr and done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert not run.arguments.exists()


def test_atc_missing_failing_or_silent(run, tmp_path):
    make_onnx(tmp_path / "a.onnx")
    for options, text in (
        ({"atc": False}, "atc is not on the PATH; source CANN's set_env.sh"),
        ({"fake": "fails"}, "atc failed with code 1 (its messages are above)"),
        ({"fake": "silent"}, "atc ended without writing out.om"),
    ):
        done = run("a.onnx", "out", **options)
        assert done.returncode == 2 and text in done.stderr, done.stderr
        assert not (tmp_path / "out.om").exists()
