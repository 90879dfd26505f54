"""From an ONNX file to an OM model: the atc command, for tools/onnx2om.sh.

    python -m mmdet.deploy.export.om MODEL.onnx OUT [options]

Options of atc and their meaning: hiascend.com, CANN 9.0.0, devaids/atctool.
"""

import argparse
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mmdet.cli import add_shared, at_least, run_cli
from mmdet.deploy.export.om_check import check_for_atc, read_input_facts
from mmdet.errors import ConfigError, DeviceError
from mmdet.files import write_text

# Chips by their names for --soc_version; those of the first two have no fp32 convolution.
HALF_ONLY = re.compile(r"Ascend(310(P\d*|B\d*)?|910(A|Pro[AB]?|Premium[AB]?)?)$")
KNOWN = re.compile(r"Ascend(310(P\d+|B\d+)?|910(A|Pro[AB]?|Premium[AB]?|B\d\w*|_9\d+)?)$")
PRECISIONS = {"fp16": "fp16", "mixed": "mixed_float16", "origin": "origin"}


class Parser(argparse.ArgumentParser):
    """Reports a mistake as one line."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError."""
        raise ConfigError(f"{message}; see --help")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = Parser(prog="onnx2om.sh", add_help=False)  # tools/onnx2om.sh prints the help
    add = parser.add_argument
    add("model")
    add("out")
    add("--shape", type=at_least(1), nargs=2, default=(640, 640))
    add_shared(parser, "--batch", type=at_least(1), default=1)
    add("--batches", type=at_least(1), nargs="+")
    add("--shapes", type=whole_pair, nargs="+")
    add("--soc")
    add("--precision", choices=PRECISIONS, default="fp16")
    add("--uint8", action="store_true")
    add("--dry-run", action="store_true")
    return parser.parse_args(argv)


def whole_pair(text: str) -> tuple[int, int]:
    """Return height and width of "480x640"."""
    height, _, width = text.partition("x")
    return at_least(1)(height), at_least(1)(width)


def choose_soc(given: str | None, precision: str) -> str:
    """Return the name of the chip for atc.

    Raises:
        ConfigError: the name is unknown, or the chip has no fp32 convolution and precision is "origin".
        DeviceError: none was given, and npu-smi names none.
    """
    soc = given or _found_soc()
    if not KNOWN.match(soc):
        raise ConfigError(
            f"--soc {soc} is unknown; give it as npu-smi info does, with Ascend before it: Ascend310P3, "
            "Ascend310B4, Ascend910A, Ascend910B4, Ascend910_9391, ..."
        )
    if precision == "origin" and HALF_ONLY.match(soc):
        raise ConfigError(f"--precision origin: {soc} has no fp32 convolution; take fp16 or mixed")
    return soc


def _found_soc() -> str:
    if shutil.which("npu-smi") is None:
        raise DeviceError(
            "--soc is missing and there is no npu-smi to ask; give --soc, for example Ascend310P3"
        )
    text = subprocess.run(["npu-smi", "info"], capture_output=True, text=True).stdout
    found = re.search(r"\b(310P\d*|310B\d*|310|910\w*)\b", text)
    if found is None:
        raise DeviceError(
            "--soc is missing and npu-smi info names no chip; give --soc, for example Ascend310P3"
        )
    return f"Ascend{found[1]}"


def input_shape(args: argparse.Namespace) -> tuple[list[int], list[str]]:
    """Return N, H, W for --input_shape, -1 for gears, and atc's option with the gears.

    Raises:
        ConfigError: gears of both kinds; atc takes one.
    """
    if args.batches and args.shapes:
        raise ConfigError("--batches and --shapes exclude each other: atc takes gears of one kind")
    if args.batches:
        return [-1, *args.shape], [f"--dynamic_batch_size={','.join(map(str, args.batches))}"]
    if args.shapes:
        sizes = ";".join(f"{height},{width}" for height, width in args.shapes)
        return [args.batch, -1, -1], [f"--dynamic_image_size={sizes}"]
    return [args.batch, *args.shape], []


def aipp_config(mean: Sequence[float], std: Sequence[float], size_hw: Sequence[int], swaps: bool) -> str:
    """Return a configuration for atc's --insert_op_conf, static, for uint8 images (N, H, W, 3).

    AIPP, the part of an Ascend chip that turns images into a network's input, computes
    (pixel - mean_chn - min_chn) * var_reci_chn; mean_chn takes integers only, so the mean goes into min_chn.
    Source: ATC 0044 and atlasatc_16_0029 of CANN 9.0.0.

    Args:
        mean: per channel, in the network's channel order.
        std: likewise.
        size_hw: height and width of the images; 0 and 0 with several image sizes.
        swaps: images are BGR and the network wants RGB.
    """
    height, width = size_hw
    values = {
        "aipp_mode": "static",
        "input_format": "RGB888_U8",
        "src_image_size_w": width,
        "src_image_size_h": height,
        "csc_switch": "false",
        "rbuv_swap_switch": str(swaps).lower(),
    }
    for channel, (m, s) in enumerate(zip(mean, std, strict=True)):
        values |= {f"mean_chn_{channel}": 0, f"min_chn_{channel}": m, f"var_reci_chn_{channel}": 1 / s}
    lines = "".join(f"    {name}: {value}\n" for name, value in values.items())
    return f"aipp_op {{\n{lines}}}\n"


def atc_command(args: argparse.Namespace) -> list[str]:
    """Return the command; with --uint8 OUT.aipp.cfg is written beside it.

    Raises:
        ConfigError, CheckpointError, DeviceError: see `check_for_atc`, `choose_soc` and `input_shape`.
    """
    out = args.out.removesuffix(".om")
    for path, kind in ((Path(args.model), "file"), (Path(out).parent, "folder")):
        if not (path.is_file() if kind == "file" else path.is_dir()):
            raise ConfigError(f"{path}: no such {kind}")
    soc = choose_soc(args.soc, args.precision)
    (batch, height, width), gears = input_shape(args)
    for number in args.batches or [args.batch]:
        for size in args.shapes or [args.shape]:
            name = check_for_atc(args.model, (number, 3, *size))
    command = ["atc", "--framework=5", f"--model={args.model}", f"--output={out}", "--input_format=NCHW"]
    command += [f"--input_shape={name}:{batch},3,{height},{width}", *gears, f"--soc_version={soc}"]
    command += [f"--precision_mode_v2={PRECISIONS[args.precision]}"]
    if args.uint8:
        facts = read_input_facts(args.model)
        size = (0, 0) if args.shapes else tuple(args.shape)
        text = aipp_config(facts.mean, facts.std, size, facts.channels == "RGB")
        write_text(f"{out}.aipp.cfg", text)
        command.append(f"--insert_op_conf={out}.aipp.cfg")
    return [*command, "--log=error"]


def main() -> None:
    """Print the command, or run it."""
    args = parse_args()
    command = atc_command(args)
    if args.dry_run:
        print(shlex.join(command))
        return
    if shutil.which("atc") is None:
        raise DeviceError(
            "atc is not on the PATH; source CANN's set_env.sh (/usr/local/Ascend/ascend-toolkit/)"
        )
    done = subprocess.run(command)
    om = Path(args.out.removesuffix(".om") + ".om")
    if done.returncode:
        raise DeviceError(
            f"atc failed with code {done.returncode} (its messages are above); no OM model was made"
        )
    if not om.is_file():
        raise DeviceError(f"atc ended without writing {om}")
    print(f"wrote {om} ({' '.join(command[5:])})")


if __name__ == "__main__":
    run_cli(main)
