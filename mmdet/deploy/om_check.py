"""Check, for tools/onnx2om.sh, that atc can convert an ONNX file: python -m mmdet.deploy.om_check F N H W."""

import sys
from collections.abc import Sequence

from mmdet.errors import CheckpointError, ConfigError, DeviceError, run_cli

LARGEST_OPSET = 17


def check_for_atc(path: str, shape: Sequence[int]) -> str:
    """Return the name of the input.

    Args:
        path: ONNX file.
        shape: N, 3, H, W the OM model shall have.

    Raises:
        CheckpointError: not an ONNX file, or of another kind.
        ConfigError: the opset is too new, or the shape is not that of the graph.
        DeviceError: the onnx package is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise DeviceError(f"the check of {path} needs another package ({error}); pip install onnx") from None
    try:
        model = onnx.load(path)
        graph_input = model.graph.input[0]
    except Exception as error:  # protobuf's own classes
        raise CheckpointError(f"{path} cannot be read as an ONNX file ({type(error).__name__})") from None
    opset = max(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    if opset > LARGEST_OPSET:
        raise ConfigError(
            f"{path} has opset {opset}; export it with --opset {LARGEST_OPSET} or lower for atc"
        )
    dims = [dim.dim_value or None for dim in graph_input.type.tensor_type.shape.dim]
    if len(dims) != 4 or any(dim not in (None, want) for dim, want in zip(dims, shape, strict=True)):
        raise ConfigError(f"{path} takes {dims}, not {list(shape)}; give its own --shape and --batch")
    return graph_input.name


def main() -> None:
    """Print the name of the input."""
    path, *sides = sys.argv[1:]
    batch, height, width = map(int, sides)
    print(check_for_atc(path, (batch, 3, height, width)))


if __name__ == "__main__":
    run_cli(main)
