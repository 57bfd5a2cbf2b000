# Every target makes the environment first if it is missing or out of date. VENV=… says where it lives.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
EXTRAS := torch,captum,gradcam,lime,xplique-cpu,dev
HASH := $(shell cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)
INSTALLED := $(VENV)/.installed-$(HASH)
# Processes that share the tests of `make test`; each takes up to 3 GB of memory.
WORKERS ?= 2

.PHONY: help install demo medical pcam check test test-process test-deep test-all format bench clean

help:
	@echo "make demo      compare four libraries on one network in two frameworks; ends with the path of the report"
	@echo "make medical   three fusion tasks: data, networks in both frameworks, three reports in out/ (twelve minutes)"
	@echo "make pcam      the PatchCamelyon study on embedded and on drawn patches, and a network that looks at a pen mark"
	@echo "make test      make check, and the tests that need no process of their own, with two workers (WORKERS=… says how many)"
	@echo "make test-process   whole programs: the demo, notebooks, commands of the documentation, killed runs"
	@echo "make test-all  both, and the slow, deep checks"
	@echo "make check     ruff and mypy"
	@echo "make bench     the harness beside the bare models, a plain loop, Xplique and Quantus; memory; estimates (three quarters of an hour)"
	@echo "make install   the environment alone"

# Xplique's metadata asks for TensorFlow's CUDA wheels (4 GB that a CPU never loads): the extra xplique-cpu brings what it
# needs, and the package itself comes without its dependencies. So does Quantus, which the tests hold the metrics against: its
# opencv-python would overwrite the headless one's files, and the extra dev brings what else it lacks. Torchcam is held against, too, and needs nothing more.
$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing into $(VENV): a few minutes and 8 GB, once."
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), f"Python 3.11 or newer is needed, PYTHON is {sys.version}"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps xplique
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps quantus torchcam
	rm -f $(VENV)/.installed-*
	echo "$(CURDIR)" > $(VENV)/.source
	touch $@

# An environment that another clone made still points at that clone.
install: $(INSTALLED)
	@test "$$(cat $(VENV)/.source)" = "$(CURDIR)" || { \
		$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e . && echo "$(CURDIR)" > $(VENV)/.source; }

demo: install
	$(BIN)/crossxai demo --out out/demo

medical: install
	$(BIN)/crossxai data medical --out data/medical
	$(BIN)/crossxai train classification --data data/medical --out models/medical
	$(BIN)/crossxai train classification --data data/medical --out models/medical --uninformative table
	$(BIN)/crossxai train regression --data data/medical --out models/medical
	$(BIN)/crossxai train segmentation --data data/medical --out models/medical
	for task in classification regression segmentation; do \
		$(BIN)/crossxai compare examples/medical/$$task.toml --out out/$$task || exit 1; done

# The PatchCamelyon study without a download: docs/pcam.md.
pcam: install
	$(BIN)/crossxai data pcam embedded --out data/histology
	$(BIN)/crossxai train pcam --data data/histology --out models/histology.npz
	$(BIN)/crossxai train pcam --data data/histology --out models/histology-keras.npz --framework tensorflow
	$(BIN)/crossxai compare examples/pcam/study.toml --out out/study
	$(BIN)/crossxai data pcam synthetic --out data/pcam-synthetic --n 20000
	$(BIN)/crossxai data pcam synthetic --out data/pcam-shortcut --n 20000 --shortcut
	$(BIN)/crossxai train pcam --data data/pcam-synthetic --out models/pcam-synthetic.npz --fraction 0.1
	$(BIN)/crossxai train pcam --data data/pcam-shortcut --out models/pcam-shortcut.npz --fraction 0.1
	$(BIN)/crossxai compare examples/pcam/shortcut.toml --out out/shortcut

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A file's tests stay in one worker, as they share networks.
test: check
	$(BIN)/pytest -m "not process and not deep" --numprocesses $(WORKERS) --dist loadfile

# One after the other and with all cores: what they start is parallel by itself, or measures time or memory.
test-process: install
	$(BIN)/pytest -m "process and not deep"

test-deep: install
	$(BIN)/pytest -m deep

test-all: test
	$(MAKE) test-process test-deep

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python benchmarks/harness.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/device.py
	$(BIN)/python benchmarks/auto_steps.py
	$(BIN)/python benchmarks/intervals.py
	$(BIN)/python benchmarks/other_intervals.py
	$(BIN)/python benchmarks/pcam_study.py
	$(BIN)/python benchmarks/reading.py

clean:
	rm -rf out .pytest_cache .mypy_cache .ruff_cache
