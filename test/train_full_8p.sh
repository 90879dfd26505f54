#!/usr/bin/env bash
# Train and evaluate on 8 devices: bash test/train_full_8p.sh --data_path=DIR (--help lists the rest)
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
launch full 8 "$@"
