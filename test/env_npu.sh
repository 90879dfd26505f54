# Source CANN's environment and set what training on an Ascend NPU needs; to be sourced, not run.
# Without CANN it changes nothing. A variable that is already set keeps its value.

# CANN's folder: where the toolkit was installed, as its own record says, else the default place.
_scrfd_source_cann() {
    local record=/etc/Ascend/ascend_cann_install.info root=${ASCEND_INSTALL_PATH:-} script
    [ -n "$root" ] || [ ! -f "$record" ] || root=$(sed -n 's/^Install_Path[^=]*=//p' "$record" | head -n 1)
    for script in "${root:=/usr/local/Ascend}/ascend-toolkit/set_env.sh" "$root/nnae/set_env.sh"; do
        if [ -f "$script" ]; then
            source "$script"
            return 0
        fi
    done
    [ -n "${ASCEND_HOME_PATH:-}" ] # an image may have prepared CANN itself
}

_scrfd_alloc_name() { # PYTORCH_ALLOC_CONF from torch 2.10 on
    "${PYTHON:-python3}" - 2>/dev/null <<'PY' || echo PYTORCH_NPU_ALLOC_CONF
from importlib.metadata import version
release = tuple(int(n) for n in version("torch").split(".")[:2])
print("PYTORCH_ALLOC_CONF" if release >= (2, 10) else "PYTORCH_NPU_ALLOC_CONF")
PY
}

if _scrfd_source_cann; then
    export ASCEND_SLOG_PRINT_TO_STDOUT=${ASCEND_SLOG_PRINT_TO_STDOUT:-0}
    export ASCEND_GLOBAL_LOG_LEVEL=${ASCEND_GLOBAL_LOG_LEVEL:-3}     # errors only
    export ASCEND_GLOBAL_EVENT_ENABLE=${ASCEND_GLOBAL_EVENT_ENABLE:-0}
    export COMBINED_ENABLE=${COMBINED_ENABLE:-1}
    export HCCL_WHITELIST_DISABLE=${HCCL_WHITELIST_DISABLE:-1}
    export HCCL_CONNECT_TIMEOUT=${HCCL_CONNECT_TIMEOUT:-1200}        # seconds; first-step compile is slow
    # Submit operators from a second thread, which also prepares their workspace; takes more memory than 1.
    export TASK_QUEUE_ENABLE=${TASK_QUEUE_ENABLE:-2}
    # Main and queue thread on cores of their own near the NPU, loader workers on the rest.
    export CPU_AFFINITY_CONF=${CPU_AFFINITY_CONF:-2}
    # Memory blocks that grow: less fragmentation. Two names, by torch's release; torch_npu aborts with both.
    if [ -z "${PYTORCH_ALLOC_CONF:-}${PYTORCH_NPU_ALLOC_CONF:-}" ]; then
        export "$(_scrfd_alloc_name)=expandable_segments:True"
    fi
    # Loader workers pass batches in shared memory: one open file per tensor.
    [ "$(ulimit -n)" = unlimited ] || [ "$(ulimit -n)" -ge 65536 ] || ulimit -Sn 65536 2>/dev/null ||
        ulimit -Sn "$(ulimit -Hn)"
    # Several hosts: HCCL connects from the address that leads to the first host.
    if [ "${NNODES:-1}" -gt 1 ] && [[ $(ip -o route get "${MASTER_ADDR:-}" 2>/dev/null) =~ src\ ([0-9.]+) ]]; then
        export HCCL_IF_IP=${HCCL_IF_IP:-${BASH_REMATCH[1]}}
    fi
fi
unset -f _scrfd_source_cann _scrfd_alloc_name
