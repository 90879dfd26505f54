# Shared by the launchers in this folder: prepare the environment, hand over to tools/launch.py.
#   launch full|performance NUM_RANKS "$@"
# PYTHON chooses the interpreter; otherwise an active environment's python3, or .venv made by `make`.
launch() {
    local mode=$1 ranks=$2 test_dir python
    shift 2
    test_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    # A scheduling platform that sets etp_running_flag=true has prepared the environment itself.
    if [ "${etp_running_flag:-}" != "true" ]; then
        source "$test_dir/env_npu.sh"
    fi
    python=${PYTHON:-python3}
    if [ -z "${PYTHON:-}${VIRTUAL_ENV:-}" ] && [ -x "$test_dir/../.venv/bin/python" ]; then
        python=$test_dir/../.venv/bin/python
    fi
    LAUNCHER_NAME=$(basename "$0") exec "$python" "$test_dir/../tools/launch.py" --mode "$mode" --ranks "$ranks" "$@"
}
