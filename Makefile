# make demo    train on small drawings (a quarter of an hour on two CPU cores) and look at what was learnt
# make test    run the tests            make bench   measure training speed
# make lint    check style              make clean   remove what the others built, but no data, results or .venv
#
# GPU=1 installs TensorFlow with CUDA. PYTHON=... is the Python that .venv is made from, VENV=... another place for it,
# ARGS=... goes to pytest, DATA=... and RESULTS=... are the folders of the demo.

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
PY := $(VENV)/bin/python
DEVICE := $(if $(filter-out 0,$(GPU)),gpu,cpu)
INSTALLED := $(VENV)/.installed-$(DEVICE)
DATA ?= data/openmoji32
RESULTS ?= results

# Python compiles what is imported when it is; compiling all that is installed took half the time of installing it.
PIP_FLAGS := --quiet --no-compile
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint bench ops doctor install clean
.DELETE_ON_ERROR:

demo: $(INSTALLED) ops $(DATA)
	$(PY) run_training.py --preset demo32 --data-dir $(dir $(DATA)) --dataset $(notdir $(DATA)) --result-dir $(RESULTS)
	@snapshot=$$(ls -t $(RESULTS)/*/network-snapshot-*.pkl | head -n 1) && \
	$(PY) run_generator.py generate-images --network "$$snapshot" --seeds 0-63 --truncation-psi 0.7 --grid \
	    --result-dir $(RESULTS) && \
	grid=$$(ls -t $(RESULTS)/*-generate-images/grid.png | head -n 1) && \
	echo && \
	echo "Look at:" && \
	echo "  $$grid            what the network draws" && \
	echo "  $$(dirname "$$snapshot")/   reals.png and fakes*.png: how it got there; log.txt, stats.jsonl, metric-*.txt"

$(DATA): | $(INSTALLED)
	$(PY) dataset_tool.py create_openmoji $@ --resolution 32 --no-skin-tones

test: $(INSTALLED) ops
	$(PY) -m pytest -q -n auto --dist loadfile $(ARGS)

lint: $(INSTALLED)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

bench: $(INSTALLED) ops
	$(PY) benchmarks/bench_training.py --preset bench32
	$(PY) benchmarks/bench_training.py --preset bench64

doctor: $(INSTALLED)
	$(PY) -m dnnlib.doctor

# Compiled ops make training faster; without them the reference ops do the same.
ops: $(INSTALLED)
	@$(PY) -m dnnlib.tflib.ops.build || \
	    echo "Compiled ops could not be built: the slower reference ops are used. 'make doctor' says what is missing."

install: $(INSTALLED)

$(INSTALLED): setup.py
	@test -n "$(PYTHON)" || { echo "error: no Python found; Python 3.11 or newer is needed (PYTHON=/path/to/python)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "error: $(PYTHON) is $$($(PYTHON) --version); Python 3.11 or newer is needed (PYTHON=/path/to/python)"; exit 1; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install $(PIP_FLAGS) --editable '.[$(DEVICE),demo,data,dev]'
	@$(PY) -m pip install $(PIP_FLAGS) --editable '.[clean]' || \
	    echo "The libraries for cleaning data sets could not all be installed: those filters of dataset_tool.py ask for them."
	@touch $@

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
