#!/usr/bin/env bash
# Convert an exported ONNX model to an OM model for Ascend inference with CANN's atc.
#
#   bash tools/onnx2om.sh MODEL.onnx OUT [options]
#
#   --shape H W              640 640 unless given
#   --batch N                images at a time, 1 unless given
#   --batches N ...          gears: one OM for several batch sizes
#   --shapes HxW ...         gears: one OM for several image sizes
#   --soc CHIP               for example Ascend310P3; the one of npu-smi unless given
#   --precision P            fp16 (default), mixed, or origin, which keeps fp32 where the chip has it
#   --uint8                  take uint8 BGR images (N, H, W, 3); the chip normalises (AIPP)
#   --dry-run                print atc's command; needs no CANN
#
# Writes OUT.om. PYTHON chooses the interpreter, which needs numpy, cv2 and onnx.
set -euo pipefail
if [[ " $* " == *" --help "* ]]; then
  sed -n '2,16s/^# \{0,1\}//p' "$0"
  exit 0
fi
python=${PYTHON:-python3}
if ! "$python" -c 'import cv2, numpy, onnx' 2>/dev/null; then
  echo "onnx2om: $python cannot import numpy, cv2 and onnx; set PYTHON=/path/to/python of an environment" \
    "that has them" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")/.." && pwd)
PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -m mmdet.deploy.export.om "$@"
