# Training on Ascend NPUs. UNTESTED: neither built nor run anywhere yet. The driver stays on the machine.
#
#   docker build -f docker/ascend.Dockerfile -t scrfd:npu .
#   docker run --rm --shm-size 8g --device /dev/davinci0 --device /dev/davinci_manager --device /dev/devmm_svm \
#       --device /dev/hisi_hdc -v /usr/local/Ascend/driver:/usr/local/Ascend/driver \
#       -v /usr/local/bin/npu-smi:/usr/local/bin/npu-smi -v "$PWD:/data" scrfd:npu doctor
#
# 910b is Atlas A2; other chips have other tags (a3, 310p). CANN, torch and torch-npu belong together: docs/ascend.md.
ARG CANN=9.1.0
FROM quay.io/ascend/cann:${CANN}-910b-ubuntu22.04-py3.11

ARG TORCH=2.12.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN pip install --no-cache-dir torch==${TORCH} --index-url ${TORCH_INDEX} \
    && pip install --no-cache-dir torch-npu==${TORCH} pyyaml setuptools

COPY setup.py pyproject.toml requirements.txt MANIFEST.in README.md LICENSE /src/
COPY mmdet /src/mmdet
COPY configs /src/configs
RUN pip install --no-cache-dir "/src[onnx]" && rm -rf /src

# The image's own entry point sources CANN's set_env.sh in a login shell only.
WORKDIR /data
ENTRYPOINT ["bash", "-c", "source /usr/local/Ascend/ascend-toolkit/set_env.sh && exec scrfd \"$@\"", "scrfd"]
