# `make demo` and `make test` set up everything they need; both can be run again.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TOSA_VENV := .venv-tosa
READY := $(VENV)/.ready
DEMO_READY := $(VENV)/.demo-ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow docs bench-quant bench-sim bench-hw conformance gallery formal mutants lint format golden release-check clean

define needed
for tool in $(1); do command -v $$tool >/dev/null || \
  { echo "$$tool must be installed first (Debian: apt-get install python3-venv python3-dev g++ make)"; exit 2; }; done
endef

define torch
command -v nvidia-smi >/dev/null || [ -n "$$PIP_EXTRA_INDEX_URL$$PIP_INDEX_URL$$PIP_FIND_LINKS" ] || \
  echo "no GPU here: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make ... takes PyTorch without CUDA, 4 GB less"
endef

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(READY) ## virtual environment with every package, Icarus Verilog, tkinter and Chromium where apt can bring them

$(READY): pyproject.toml constraints.txt
	@$(call needed,$(PYTHON) g++)
	@$(torch)
	@sh scripts/watched.sh "every package into $(VENV): about 3 minutes" $(VENV) 3600 sh -c \
	  '$(PYTHON) -m venv $(VENV) && $(BIN)/pip install --quiet -c constraints.txt -e \
	  ".[detect,hdl,exchange,qonnx,synth,formal,cluster,conformance,docs,dev]"'
	@# Its NumPy is older than ours, so that it has an environment of its own.
	@$(PYTHON) -m venv $(TOSA_VENV) && $(TOSA_VENV)/bin/pip install --quiet tosa-tools==2026.8.0 || \
	  { rm -rf $(TOSA_VENV); echo "tosa-tools is not installed; only comparisons with TOSA need it."; }
	@command -v iverilog >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && apt-get install -y -qq iverilog >/dev/null; } || \
	  echo "Icarus Verilog is not installed; it is optional beside Verilator."
	@$(PYTHON) -c 'import tkinter' 2>/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && apt-get install -y -qq python3-tk >/dev/null; } || \
	  echo "Python's tkinter is not installed; only tests of Vivado scripts need its Tcl interpreter."
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || \
	  echo "Chromium is not installed; only a test of the report's looks needs it."
	@touch $(READY) $(DEMO_READY)

# Only what the demo uses: no formal tools, no place and route, no browser, nothing by apt.
$(DEMO_READY): pyproject.toml constraints.txt
	@$(call needed,$(PYTHON) g++)
	@$(torch)
	@sh scripts/watched.sh "what the demo uses into $(VENV): 1 to 3 minutes" $(VENV) 1900 sh -c \
	  '$(PYTHON) -m venv $(VENV) && $(BIN)/pip install --quiet -c constraints.txt -e ".[detect,hdl]"'
	@touch $(DEMO_READY)

test test-slow golden: export OMP_NUM_THREADS ?= 1
bench-quant: export OMP_NUM_THREADS ?= 2

demo: $(DEMO_READY) ## the whole path on the bundled detector, into demo/
	$(BIN)/intaglio demo -o demo

test: lint ## lint, types, and every test that is not marked slow
	$(BIN)/pytest -n 2 --dist loadgroup -m "not slow"

test-slow: $(READY) ## the tests that take minutes each
	$(BIN)/pytest -m slow

docs: $(READY) ## the site, into build/docs: pages, references made from the code, the tour as it ran
	$(BIN)/python -m sphinx -W --keep-going -q docs build/docs
	@echo "build/docs/index.html"

bench-quant: $(READY) ## AP of every method and width, hours in all (goes on where it stopped; ARGS=--quick: a minute)
	$(if $(ARGS),,$(BIN)/python benchmarks/quant/aqd.py)
	$(BIN)/python benchmarks/quant/quant.py $(ARGS)

bench-sim: $(READY) ## speed of the simulator beside onnxruntime and torch, minutes
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/sim/simulator.py $(ARGS)

bench-hw: $(READY) ## cycles, queues, AP, place and route, and a peer's network, hours (goes on where it stopped)
	$(BIN)/python benchmarks/codegen/cycles.py $(ARGS)
	$(BIN)/python benchmarks/codegen/fifos.py
	$(BIN)/python benchmarks/codegen/rtl_map.py
	$(BIN)/python benchmarks/codegen/timing.py --folder build/timing
	$(BIN)/python benchmarks/codegen/engines.py
	$(BIN)/python benchmarks/codegen/resources.py
	$(BIN)/python benchmarks/codegen/resnet8.py

gallery: $(READY) ## networks of others, from the files in $$INTAGLIO_MODELS to integers (goes on where it stopped)
	$(BIN)/python benchmarks/exchange/gallery.py $(ARGS)

conformance: $(READY) .executorch/.ready ## our integers against other programs' integers, minutes
	$(BIN)/python benchmarks/conformance/conformance.py $(ARGS)

# Packages that conflict with ours, for Python to look at last; only what its operators import.
.executorch/.ready:
	$(BIN)/pip install --quiet --no-deps --upgrade --target .executorch \
	  executorch==1.5.1 torchao==0.18.0 ruamel.yaml tabulate tosa-tools==2026.5.0
	@touch $@

formal: $(READY) ## prove every stream block, minutes (goes on where it stopped; ARGS=--anew)
	$(BIN)/python tests/formal $(ARGS)

mutants: $(READY) ## how many changes of generated Verilog verify finds, an hour (goes on where it stopped)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mutants/mutant_score.py $(ARGS)

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## rewrite the sources in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

golden: $(READY) ## rewrite the expected texts under tests/golden
	$(BIN)/pytest -q --update-golden -m "not slow and not rtl"

release-check: ## a source distribution and a wheel into dist/, checked; nothing is uploaded
	PYTHON=$(PYTHON) sh scripts/release.sh

clean: ## remove what the other targets made
	rm -rf demo build runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
