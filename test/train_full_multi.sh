#!/usr/bin/env bash
# Train on several machines, evaluate on the first; run it on every machine: bash test/train_full_multi.sh --data_path=DIR
#   NNODES  how many (2)    NODE_RANK  this one's number, from 0    MASTER_ADDR  address of number 0, which all reach
#   MASTER_PORT  a port of it (29500)    RANKS_PER_NODE  devices of each machine (8)
export NNODES=${NNODES:-2}
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
launch full "${RANKS_PER_NODE:-8}" "$@"
