#!/usr/bin/env bash
# Train on several devices with torchrun; see usage below.
set -euo pipefail

usage="usage: bash tools/dist_train.sh CONFIG NPROC [options of tools/train.py]

NPROC is the number of processes (devices) on this machine. On several machines run the same command on
each, with NNODES (how many), NODE_RANK (0, 1, ...), MASTER_ADDR (the first one) and PORT (default 29500).
Two jobs on one machine do not collide unless both set the same PORT. PYTHON chooses the interpreter."

if [[ "${1:-}" == "-h" || "${1:-}" == "--help" ]]; then
    echo "$usage"
    exit 0
fi
if [[ $# -lt 2 || ! "$2" =~ ^[1-9][0-9]*$ ]]; then
    echo "$usage" >&2
    exit 2
fi
config="$1"
nproc="$2"
shift 2

if [[ "${NNODES:-1}" == 1 && -z "${PORT:-}" ]]; then
    meeting=(--standalone) # a free port
else
    meeting=(--nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}"
        --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}")
fi
# With torch-npu installed and CANN absent, `import torch` fails unless this is off; train.py imports
# torch_npu itself when it needs it.
export TORCH_DEVICE_BACKEND_AUTOLOAD="${TORCH_DEVICE_BACKEND_AUTOLOAD:-0}"
exec "${PYTHON:-python}" -m torch.distributed.run "${meeting[@]}" --nproc_per_node "$nproc" \
    "$(dirname "${BASH_SOURCE[0]}")/train.py" "$config" --launcher pytorch "$@"
