"""tools/onnx2om.sh: what it refuses, the command it prints, and what it makes of a stand-in for atc."""

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mmdet.deploy.export.om import aipp_config, atc_command, parse_args
from mmdet.deploy.export.om_check import check_for_atc
from mmdet.deploy.runtime.letterbox import to_blob
from mmdet.errors import CheckpointError, ConfigError, DeviceError

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
    options = ("--shape", 480, 640, "--batch", 8, "--soc", "Ascend310P3", "--dry-run")
    done = run("my model.onnx", "out.om", *options, atc=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "atc --framework=5 '--model=my model.onnx' --output=out --input_format=NCHW "
        "--input_shape=input.1:8,3,480,640 --soc_version=Ascend310P3 --precision_mode_v2=fp16 --log=error\n"
    )
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
    done = run("a.onnx", "out", "--soc", "Ascend910B4", "--precision", "origin")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "wrote out.om (--input_shape=input.1:1,3,640,640 --soc_version=Ascend910B4 "
    )
    assert run.arguments.read_text().splitlines() == [
        "--framework=5",
        "--model=a.onnx",
        "--output=out",
        "--input_format=NCHW",
        "--input_shape=input.1:1,3,640,640",
        "--soc_version=Ascend910B4",
        "--precision_mode_v2=origin",
        "--log=error",
    ]


def arguments(*args):
    return atc_command(parse_args([*map(str, args)]))


def test_gears_are_given_as_atc_wants_them(tmp_path):
    model = make_onnx(tmp_path / "a.onnx", ("N", 3, "H", "W"))
    base = (model, tmp_path / "out", "--soc", "Ascend310P3")
    batches = arguments(*base, "--batches", 1, 4, 8, "--shape", 480, 640)
    assert {"--input_shape=input.1:-1,3,480,640", "--dynamic_batch_size=1,4,8"} <= set(batches)
    shapes = arguments(*base, "--shapes", "480x640", "640x640")
    assert {"--input_shape=input.1:1,3,-1,-1", "--dynamic_image_size=480,640;640,640"} <= set(shapes)
    with pytest.raises(ConfigError, match="--batches and --shapes exclude each other"):
        arguments(*base, "--batches", 1, 2, "--shapes", "480x640")
    with pytest.raises(ConfigError, match="--shape 500 640: both must be multiples of 32"):
        arguments(*base, "--shapes", "640x640", "500x640")


@pytest.mark.parametrize("soc", ["Ascend310P", "Ascend910C", "910B4", "Ascend", "Ascend310P3 "])
def test_an_unknown_chip_is_refused(tmp_path, soc):
    model = make_onnx(tmp_path / "a.onnx")
    with pytest.raises(ConfigError, match=f"--soc {soc} is unknown"):
        arguments(model, tmp_path / "out", "--soc", soc)


@pytest.mark.parametrize("soc", ["Ascend310P3", "Ascend910A", "Ascend310B4", "Ascend910ProB"])
def test_fp32_is_refused_where_the_chip_has_none(tmp_path, soc):
    model = make_onnx(tmp_path / "a.onnx")
    with pytest.raises(ConfigError, match=f"--precision origin: {soc} has no fp32 convolution"):
        arguments(model, tmp_path / "out", "--soc", soc, "--precision", "origin")
    assert "--precision_mode_v2=mixed_float16" in arguments(
        model, tmp_path / "out", "--soc", soc, "--precision", "mixed"
    )


@pytest.mark.parametrize(
    ("says", "want"),
    [("| 0     310P3      | OK", "Ascend310P3"), ("| 0  910B2C | OK", "Ascend910B2C"), ("", None)],
)
def test_the_chip_is_npu_smis(tmp_path, says, want, monkeypatch):
    model = make_onnx(tmp_path / "a.onnx")
    (tmp_path / "npu-smi").write_text(f"#!/bin/sh\necho '{says}'\n")
    (tmp_path / "npu-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if want is None:
        with pytest.raises(DeviceError, match="npu-smi info names no chip; give --soc"):
            arguments(model, tmp_path / "out")
    else:
        assert f"--soc_version={want}" in arguments(model, tmp_path / "out")


def test_without_npu_smi_a_chip_must_be_given(tmp_path, monkeypatch):
    model = make_onnx(tmp_path / "a.onnx")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceError, match="no npu-smi to ask; give --soc"):
        arguments(model, tmp_path / "out")


def computed_by_aipp(text, images):
    """Return what ATC's documentation says AIPP makes of uint8 (N, H, W, 3)."""
    entries = dict(line.strip().split(": ") for line in text.splitlines() if ": " in line)
    if entries["rbuv_swap_switch"] == "true":
        images = images[..., ::-1]
    planes = []
    for channel in range(3):
        mean, least, factor = (
            float(entries[f"{name}_{channel}"]) for name in ("mean_chn", "min_chn", "var_reci_chn")
        )
        planes.append((images[..., channel].astype(np.float64) - mean - least) * factor)
    return np.stack(planes, axis=1)


@pytest.mark.parametrize("swaps", [True, False])
@pytest.mark.parametrize(
    ("mean", "std"), [((127.5,) * 3, (128.0,) * 3), ((104.0, 117.5, 123.25), (1.0, 57.0, 3.0))]
)
def test_aipp_normalises_as_we_do(mean, std, swaps):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3), dtype=np.uint8)
    text = aipp_config(mean, std, (32, 64), swaps)
    ours = to_blob(list(images), mean, std, is_rgb=swaps)
    assert np.abs(computed_by_aipp(text, images) - ours).max() <= 1e-5 * np.abs(ours).max()
    if mean[0] == 127.5:
        assert "min_chn_0: 127.5\n" in text and "var_reci_chn_0: 0.0078125\n" in text
        assert "mean_chn_0: 0\n" in text and "src_image_size_w: 64\n" in text


def test_uint8_writes_the_file_that_atc_is_given(tmp_path):
    model = make_onnx(tmp_path / "a.onnx", ("N", 3, "H", "W"))
    base = (model, tmp_path / "out", "--soc", "Ascend310P3", "--uint8")
    assert f"--insert_op_conf={tmp_path}/out.aipp.cfg" in arguments(*base)
    text = (tmp_path / "out.aipp.cfg").read_text()
    assert "rbuv_swap_switch: true" in text and "src_image_size_h: 640" in text
    arguments(*base, "--shapes", "480x640", "640x640")  # no crop, so no size
    assert "src_image_size_h: 0" in (tmp_path / "out.aipp.cfg").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "the following arguments are required: model, out"),
        (("no.onnx", "out"), "no.onnx: no such file"),
        (("a.onnx", "no/out"), "no: no such folder"),
        (("a.onnx", "out", "--shape", "640"), "--shape: expected 2 arguments"),
        (("a.onnx", "out", "--shape", "640", "-1"), "--shape: -1: expected 1 or more"),
        (("a.onnx", "out", "--batch", "0"), "--batch: 0: expected 1 or more"),
        (("a.onnx", "out", "--int8"), "unrecognized arguments: --int8"),
        (
            ("a.onnx", "out", "--soc", "Ascend910B4", "--batch", "2"),
            "takes 1 x 3 x 640 x 640, not 2 x 3 x 640 x 640",
        ),
    ],
)
def test_mistakes_are_one_line_and_code_2(run, tmp_path, args, text):
    make_onnx(tmp_path / "a.onnx")
    done = run(*args)
    assert done.returncode == 2 and text in done.stderr and done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert not run.arguments.exists()


@pytest.mark.slow
def test_atc_missing_failing_or_silent(run, tmp_path):
    make_onnx(tmp_path / "a.onnx")
    for options, text in (
        ({"atc": False}, "atc is not on the PATH; source CANN's set_env.sh"),
        ({"fake": "fails"}, "atc failed with code 1 (its messages are above)"),
        ({"fake": "silent"}, "atc ended without writing out.om"),
    ):
        done = run("a.onnx", "out", "--soc", "Ascend310P3", **options)
        assert done.returncode == 2 and text in done.stderr, done.stderr
        assert not (tmp_path / "out.om").exists()
