# Source CANN's environment and set what training on an Ascend NPU needs; to be sourced, not run.
# Without CANN it changes nothing. A variable that is already set keeps its value.

# CANN's folder: where the toolkit was installed, as its own record says, else the default place.
_scrfd_cann_root() {
    local record=/etc/Ascend/ascend_cann_install.info
    if [ -n "${ASCEND_INSTALL_PATH:-}" ]; then
        echo "$ASCEND_INSTALL_PATH"
    elif [ -f "$record" ]; then
        sed -n 's/^Install_Path[^=]*=//p' "$record" | head -n 1
    else
        echo /usr/local/Ascend
    fi
}

_scrfd_source_cann() {
    local root script
    root=$(_scrfd_cann_root)
    for script in "$root/ascend-toolkit/set_env.sh" "$root/nnae/set_env.sh"; do
        if [ -f "$script" ]; then
            source "$script"
            return 0
        fi
    done
    [ -n "${ASCEND_HOME_PATH:-}" ] # an image may have prepared CANN itself
}

if _scrfd_source_cann; then
    export ASCEND_SLOG_PRINT_TO_STDOUT=${ASCEND_SLOG_PRINT_TO_STDOUT:-0}
    export ASCEND_GLOBAL_LOG_LEVEL=${ASCEND_GLOBAL_LOG_LEVEL:-3}     # errors only
    export ASCEND_GLOBAL_EVENT_ENABLE=${ASCEND_GLOBAL_EVENT_ENABLE:-0}
    export COMBINED_ENABLE=${COMBINED_ENABLE:-1}
    export HCCL_WHITELIST_DISABLE=${HCCL_WHITELIST_DISABLE:-1}
    export HCCL_CONNECT_TIMEOUT=${HCCL_CONNECT_TIMEOUT:-1200}        # seconds; first-step compile is slow
    # Submit operators from a second thread; 2 is faster and takes more memory.
    export TASK_QUEUE_ENABLE=${TASK_QUEUE_ENABLE:-1}
    # Bind each process to cores near its NPU; 2 also binds its threads.
    export CPU_AFFINITY_CONF=${CPU_AFFINITY_CONF:-1}
    # Memory blocks that grow: less fragmentation. torch_npu aborts if PYTORCH_ALLOC_CONF is set too.
    if [ -z "${PYTORCH_ALLOC_CONF:-}" ]; then
        export PYTORCH_NPU_ALLOC_CONF=${PYTORCH_NPU_ALLOC_CONF:-expandable_segments:True}
    fi
fi
unset -f _scrfd_cann_root _scrfd_source_cann
