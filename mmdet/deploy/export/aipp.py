"""AIPP: the part of an Ascend chip that turns uint8 images into a network's input."""

from collections.abc import Sequence


def aipp_config(mean: Sequence[float], std: Sequence[float], size_hw: Sequence[int], swaps: bool) -> str:
    """Return a configuration for atc's --insert_op_conf, static, for uint8 images (N, H, W, 3).

    AIPP computes (pixel - mean_chn - min_chn) * var_reci_chn; mean_chn takes integers only, so the mean goes
    into min_chn. Source: ATC 0044 and atlasatc_16_0029 of CANN 9.0.0.

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
