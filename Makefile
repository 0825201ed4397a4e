# Makes its own environment; needs Python 3.11 or newer with venv.
PYTHON ?= python3
VENV ?= .venv
# vLLM has no build for macOS.
LOCK ?= $(if $(filter Darwin,$(shell uname -s)),requirements-hf.lock,requirements-cpu.lock)
BIN := $(VENV)/bin

# For two cores: three workers, since some tests wait for a deadline; what a file's tests prepare stays
# in one of them. tests/plan.py gives the order. Bytecode is kept even where Python is told to keep none:
# each worker, and each Python that a test starts, would compile all files again.
WORKERS = 3
PYTEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
	--no-loadscope-reorder

.PHONY: quickstart install check test test-long lint docs reliability families notebook audit dist locks check-locks gpu-check
quickstart: install
	$(BIN)/luffy-pl fit --config conf/quickstart.yaml --overwrite

install: $(VENV)/.installed

# The lock is complete, hence --no-deps. Where pip finds no CPU build of torch, PyTorch's own index
# has it; few and short attempts, so that a machine without that index is told soon. Bytecode is made on
# all cores, where pip would take one; a package may ship a template that is no Python, hence `true`.
$(VENV)/.installed: $(LOCK) pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --no-deps -r $(LOCK) || \
	$(BIN)/pip install --quiet --no-compile --no-deps --retries 1 --timeout 20 \
		--extra-index-url https://download.pytorch.org/whl/cpu -r $(LOCK)
	$(BIN)/pip install --quiet --no-compile --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib luffy_pl >/dev/null || true
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md luffy_pl docs conf experiments
	$(BIN)/mypy

# While one works on the code: lint, types, and tests without a process, a composition or a run. They hardly
# wait for anything, and a worker more would import everything once more.
check: WORKERS = 2
check: lint
	$(PYTEST) -m "not runs and not long"

# Every promise of the README.
test: install
	$(PYTEST)

# Repetitions and longer runs; SHARD=2/4 is the second of four parts of them.
test-long: install
	$(PYTEST) -m long $(if $(SHARD),--shard $(SHARD)) $(if $(BEGIN_WITHIN),--begin-within $(BEGIN_WITHIN))

# The table of docs/reliability.md, from the results of the tests.
reliability: install
	mkdir -p outputs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m case --junitxml=outputs/cases.xml
	$(BIN)/python tests/reliability_table.py outputs/cases.xml

# docs/notebook.ipynb with what its cells show: two minutes.
notebook: install
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore docs/make/notebook.py

# The table of docs/models.md: a minute, in which tiny models of all families are compared.
families: install
	OMP_NUM_THREADS=1 PYTHONPATH=. $(BIN)/python -W ignore tests/policy/families.py
	OMP_NUM_THREADS=1 PYTHONPATH=.:tests $(BIN)/python -W ignore tests/policy/miniature.py

# Whether this machine's GPU computes what its CPU does, and how fast: at most ten minutes. Without a GPU, what a CPU
# can run. Any environment with torch 2.11 or newer will do: make gpu-check PYTHON_OF_GPU=python
PYTHON_OF_GPU ?= $(BIN)/python
gpu-check:
	$(PYTHON_OF_GPU) experiments/gpu/check.py

# Archive and wheel in dist/, checked, installed into an empty environment, and a phase trained with them.
dist: install
	$(BIN)/python release/dist.py

# The locks for GPUs and for systems without vLLM, made again; that for CPUs is kept by hand. Asks the package index.
locks: install
	$(BIN)/python release/locks.py write

# That every lock resolves for Python 3.11, 3.12 and 3.13; nothing is installed. Asks the package index.
check-locks: install
	$(BIN)/python release/locks.py check

# Known weaknesses of what is locked. Asks a database on the network, so no part of `test`.
audit:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install --quiet pip-audit==2.10.0
	.venv-audit/bin/pip-audit --no-deps --disable-pip --requirement requirements-cpu.lock

# The reference is made from the code; the site, in site/, needs no network to build or to read.
docs: install
	$(BIN)/python docs/make/configuration.py
	$(BIN)/mkdocs build --strict --quiet
