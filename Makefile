# `make help` lists the targets. Every target may be repeated: what is done is not done again.
#
# PYTHON            the interpreter the virtual environment is made from          (python3)
# VENV              where it is made                                              (.venv)
# USE_CURRENT_ENV=1 no virtual environment: use PYTHON as it is and install only what it lacks.
#                   For images that bring their own torch, such as Ascend's.
# VENV_NPU          where the environment of test-ascend is made                  (.venv-npu)
# TORCH             what to install where torch is missing; pinned, because an unpinned torch
#                   may pull gigabytes of another build                           (torch==2.13.0)
# CPU_INDEX         where test-ascend finds the CPU build of torch, if no configured index has it
# JOBS              parallel test processes                                       (2)
# MINUTES           length of the campaign                                        (60)
# TOY               folder of the drawn data set                                  (data/toy)

SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
VENV_NPU ?= .venv-npu
TORCH ?= torch==2.13.0
CPU_INDEX ?= https://download.pytorch.org/whl/cpu
JOBS ?= 2
MINUTES ?= 60
TOY ?= data/toy
TOY_CONFIG := configs/toy/scrfd_500m_bnkps_toy.py
TOY_WORK_DIR := work_dirs/toy

ifeq ($(USE_CURRENT_ENV),1)
  PY := $(PYTHON)
  STAMPS := build/current_env
else
  PY := $(VENV)/bin/python
  STAMPS := $(VENV)/stamps
endif

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help venv train test test-ascend check campaign

help:
	@echo "make train   install, draw a toy data set, train scrfd_500m_bnkps on it, evaluate (CPU is enough)"
	@echo "make test    install, run every test"
	@echo "make test-ascend   install the real torch-npu beside it, run test/ascend on simulated cards"
	@echo "make check   format, lint, types and the fast unit tests (2 to 3 minutes)"
	@echo "make campaign MINUTES=60   attack parsers and moments of a run; report in build/campaign"
	@echo "make venv    only make the virtual environment and install"
	@echo "Variables: PYTHON VENV VENV_NPU USE_CURRENT_ENV=1 TORCH JOBS TOY; see the head of the Makefile."

venv: $(STAMPS)/runtime

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	    || { echo "$(PYTHON) is older than Python 3.10; choose another: make PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) \
	    || { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment: install the package" \
	         "python3-venv, or use the current environment: make USE_CURRENT_ENV=1" >&2; exit 2; }

$(STAMPS)/runtime: setup.py requirements.txt $(if $(filter 1,$(USE_CURRENT_ENV)),,$(VENV)/bin/python)
	@mkdir -p $(STAMPS)
	@$(PY) -c 'import torch' 2>/dev/null || { echo "installing $(TORCH)"; $(PY) -m pip install -q "$(TORCH)"; }
	@echo "installing scrfd-trainer"
	@$(PY) -m pip install -q -e .
	@touch $@

$(STAMPS)/test: $(STAMPS)/runtime
	@echo "installing the test tools"
	@$(PY) -m pip install -q -e '.[test]'
	@touch $@

$(TOY)/done: tools/make_toy_faces.py | $(STAMPS)/runtime
	$(PY) tools/make_toy_faces.py --out $(TOY) --train 1000 --val 100 --seed 0
	@touch $@

train: $(STAMPS)/runtime $(TOY)/done
	bash test/train_full_1p.sh --data_path=$(TOY) --config=$(TOY_CONFIG) --work_dir=$(TOY_WORK_DIR)

test: $(STAMPS)/test
	@$(PY) -m pytest -q -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

# An environment of its own, because torch-npu fits one torch only. torch comes first: the pair is pinned, and
# in a CUDA build, which the default index has, torch-npu aborts. The audit of every config belongs to `make test`.
$(VENV_NPU)/stamp: setup.py requirements.txt
	@[ -x $(VENV_NPU)/bin/python ] || $(PYTHON) -m venv $(VENV_NPU)
	@echo "installing torch and torch-npu 2.13.0 in $(VENV_NPU)"
	@$(VENV_NPU)/bin/python -m pip install -q torch==2.13.0+cpu 2>/dev/null \
	    || $(VENV_NPU)/bin/python -m pip install -q torch==2.13.0+cpu --index-url $(CPU_INDEX) 2>/dev/null \
	    || $(VENV_NPU)/bin/python -m pip install -q torch==2.13.0
	@$(VENV_NPU)/bin/python -m pip install -q -e '.[npu-sim,test]'
	@touch $@

ifneq ($(filter Linux-x86_64 Linux-aarch64,$(shell uname -sm | tr ' ' -)),)
test-ascend: $(VENV_NPU)/stamp
	@TORCH_DEVICE_BACKEND_AUTOLOAD=0 $(VENV_NPU)/bin/python -m pytest -q -n $(JOBS) --dist loadfile test/ascend \
	    --deselect test/ascend/test_audit.py::test_every_config_stays_on_the_ai_core $(PYTEST_ARGS)
else
test-ascend:
	@echo "test-ascend: skipped, torch-npu has wheels for Linux on x86-64 and aarch64 only, this is $$(uname -sm)"
endif

check: $(STAMPS)/test
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m mypy --config-file test/mypy_tensors.ini
	$(PY) -m pytest -q -n $(JOBS) --dist loadfile -m "not slow" test/unit

campaign: $(STAMPS)/test
	$(PY) test/campaign/run.py --minutes $(MINUTES) --out build/campaign
