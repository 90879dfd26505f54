"""What tools/onnx2om.sh must know of an ONNX file before it calls atc."""

from collections.abc import Sequence

from mmdet.deploy.export.onnx_file import load_onnx
from mmdet.deploy.runtime.description import METADATA_KEY, Description
from mmdet.errors import CheckpointError, ConfigError

LARGEST_OPSET = 17
MULTIPLE = 32  # the largest stride


def check_for_atc(path: str, shape: Sequence[int]) -> str:
    """Return the name of the input.

    Args:
        path: ONNX file. Sides it leaves open are fixed by atc's --input_shape.
        shape: N, 3, H, W the OM model shall have.

    Raises:
        CheckpointError: not an ONNX file, or none with one picture input.
        ConfigError: the opset is too new, the shape is not that of the graph, or the number of outputs
            depends on the picture.
        DeviceError: the onnx package is missing.
    """
    _, model = load_onnx(path)
    constants = {tensor.name for tensor in model.graph.initializer}  # old exporters list them as inputs
    inputs = [value for value in model.graph.input if value.name not in constants]
    opsets = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    if len(inputs) != 1 or not opsets:
        raise CheckpointError(f"{path} is no detector: {len(inputs)} inputs, one is expected")
    if max(opsets) > LARGEST_OPSET:
        raise ConfigError(
            f"{path} has opset {max(opsets)}; export it with --opset {LARGEST_OPSET} or lower for atc"
        )
    dims = [dim.dim_value or None for dim in inputs[0].type.tensor_type.shape.dim]
    if len(dims) != 4 or any(dim not in (None, want) for dim, want in zip(dims, shape, strict=True)):
        text = " x ".join("any" if dim is None else str(dim) for dim in dims)
        raise ConfigError(
            f"{path} takes {text}, not {' x '.join(map(str, shape))}; give its own --batch and --shape"
        )
    if any(node.op_type == "NonMaxSuppression" for node in model.graph.node):
        raise ConfigError(
            f"{path} has NMS inside, whose outputs have no fixed size; export without --with-nms"
        )
    if shape[2] % MULTIPLE or shape[3] % MULTIPLE:
        raise ConfigError(f"--shape {shape[2]} {shape[3]}: both must be multiples of {MULTIPLE}")
    return inputs[0].name


def read_input_facts(path: str) -> Description:
    """Return the description inside a file of tools/scrfd2onnx.py; the published normalisation for others."""
    _, model = load_onnx(path)
    described = {item.key: item.value for item in model.metadata_props}.get(METADATA_KEY)
    return Description.from_json(described) if described else Description((), 0, 0)
