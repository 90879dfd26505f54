#!/usr/bin/env bash
# Convert an exported ONNX model to an OM model for Ascend inference with CANN's atc.
#
#   bash tools/onnx2om.sh MODEL.onnx OUT [--shape 640 640] [--batch 1] [--soc Ascend310P3] [--fp32] [--dry-run]
#
# Writes OUT.om. The OM has a static shape (height, width); export the ONNX file with --opset 17 or lower.
# --dry-run prints the command and needs no CANN. atc comes with CANN: source its set_env.sh first.
# --soc: as npu-smi names the card (default: the card of this machine, else Ascend310P3).
set -euo pipefail

fail() { echo "onnx2om: $*" >&2; exit 2; }
usage() { sed -n '2,8s/^# \{0,1\}//p' "$0"; }

positional=() height=640 width=640 batch=1 soc="" precision=force_fp16 dry_run=0
while [ $# -gt 0 ]; do
  case "$1" in
    -h|--help) usage; exit 0 ;;
    --shape) [ $# -ge 3 ] || fail "--shape needs a height and a width"; height=$2; width=$3; shift 3 ;;
    --batch) [ $# -ge 2 ] || fail "--batch needs a number"; batch=$2; shift 2 ;;
    --soc) [ $# -ge 2 ] || fail "--soc needs a name, for example Ascend310P3"; soc=$2; shift 2 ;;
    --fp32) precision=must_keep_origin_dtype; shift ;;
    --dry-run) dry_run=1; shift ;;
    -*) fail "unknown option $1; see --help" ;;
    *) positional+=("$1"); shift ;;
  esac
done
[ ${#positional[@]} -eq 2 ] || fail "give MODEL.onnx and OUT; see --help"
model=${positional[0]} out=${positional[1]%.om}
for value in "$height" "$width" "$batch"; do
  [[ $value =~ ^[1-9][0-9]*$ ]] || fail "'$value' is not a positive whole number"
done
[ -f "$model" ] || fail "$model: no such file"
[ -d "$(dirname "$out")" ] || fail "$(dirname "$out"): no such folder"

# What the file itself says: opset, input name, and whether its shape agrees with the one asked for.
python=${PYTHON:-python3}
"$python" -c 'import cv2, numpy, onnx' 2>/dev/null || \
  fail "$python cannot import numpy, cv2 and onnx; set PYTHON=/path/to/python of an environment that has them"
here=$(cd "$(dirname "$0")/.." && pwd)
input=$(PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" "$python" -m mmdet.deploy.export.om_check \
        "$model" "$batch" "$height" "$width") || exit 2

if [ -z "$soc" ]; then
  soc=$(npu-smi info 2>/dev/null | grep -oE '\b(310P[0-9]*|310B[0-9]*|310|910[A-Z0-9]*)\b' | head -n 1 || true)
  soc=Ascend${soc:-310P3}
fi
command=(atc --framework=5 "--model=$model" "--output=$out" "--input_format=NCHW"
         "--input_shape=$input:$batch,3,$height,$width" "--soc_version=$soc" "--precision_mode=$precision"
         --log=error)
if [ "$dry_run" = 1 ]; then
  printf '%q ' "${command[@]}"; echo
  exit 0
fi
command -v atc >/dev/null || fail "atc is not on the PATH; source CANN's set_env.sh (for example /usr/local/Ascend/ascend-toolkit/set_env.sh)"
"${command[@]}" || fail "atc failed with code $? (its messages are above); no OM model was made"
[ -f "$out.om" ] || fail "atc ended without writing $out.om"
echo "wrote $out.om ($soc, $precision, ${batch}x3x${height}x${width})"
