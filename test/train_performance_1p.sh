#!/usr/bin/env bash
# Measure training speed on one device: bash test/train_performance_1p.sh --data_path=DIR (--help lists the rest)
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
launch performance 1 "$@"
