#!/usr/bin/env bash
# Train and evaluate on one device: bash test/train_full_1p.sh --data_path=DIR (--help lists the rest)
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
launch full 1 "$@"
