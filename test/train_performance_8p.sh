#!/usr/bin/env bash
# Measure training speed on 8 devices: bash test/train_performance_8p.sh --data_path=DIR (--help lists the rest)
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
launch performance 8 "$@"
