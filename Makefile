# make test    the whole suite          make train   train the example on real data
# make test-long   its long sweep       make mutate  whether the tests notice what is broken (an hour)
# make lint    ruff, clang-format, mypy make bench   a quick benchmark
# make fuzz    100,000 random and broken calls (ARGS="--calls 5000 --seed 1")
# make fuzz-asan    the same with AddressSanitizer
# make test-peers   compares the drop-ins of torch_lif.compat with the libraries themselves, which it installs
#
# Each target makes what it needs: a virtual environment, PyTorch, the compiled kernels. A second run rebuilds nothing.
#   TORCH=torch==2.12.0   another PyTorch
#   TORCH=installed       the PyTorch that $(PYTHON) has already, no virtual environment and no network (a GPU machine)
#   ARGS="..."            further arguments of pytest, of the example or of the benchmark
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
ARGS ?=

SOURCES := setup.py $(wildcard csrc/*.py csrc/*/*.c csrc/*/*.h csrc/*/*.cpp csrc/*/*.cu)
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))

ifeq ($(TORCH),installed)
RUN := $(PYTHON)
READY :=
CHOSEN :=
PARALLEL :=
BUILT := build/built-with-installed
else
RUN := $(VENV)/bin/python
READY := $(VENV)/ready
CHOSEN := $(VENV)/torch
PARALLEL := -n auto --dist loadfile
BUILT := build/built-with-venv
endif

.PHONY: build test test-long mutate test-peers fuzz fuzz-asan train bench lint format cuda-objects clean FORCE

build: $(BUILT)

# Holds the name of the chosen PyTorch. It is written only when that changes; the environment and the extension are then
# made again.
$(VENV)/torch: FORCE
	@mkdir -p $(VENV)
	@echo "$(TORCH)" | cmp -s - $@ || echo "$(TORCH)" > $@

$(VENV)/ready: pyproject.toml Makefile $(VENV)/torch
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet "$(TORCH)" "setuptools>=77" ninja numpy pytest pytest-xdist hypothesis scikit-learn matplotlib tqdm
	touch $@

# It does not depend on the time of the environment, because a new pyproject.toml need not rebuild the kernels. There is
# only one extension in torch_lif/, so the stamps of other choices are removed.
$(BUILT): $(SOURCES) $(CHOSEN) | $(READY)
	$(RUN) setup.py --quiet build_ext --inplace
	mkdir -p build && rm -f build/built-with-* && touch $@

# A process for each core; they share the cores, so that their threads must not spin.
test test-long: export OMP_WAIT_POLICY ?= passive

test: $(READY) $(BUILT)
	$(RUN) -m pytest $(PARALLEL) $(ARGS)

# Every case with every surrogate, and five times as many random calls.
test-long: $(READY) $(BUILT)
	TORCH_LIF_TESTS=long $(RUN) -m pytest tests/test_exact.py tests/test_gradients.py $(PARALLEL) $(ARGS)

# Breaks the C sources in some sixty places, one at a time: the tests have to notice each.
mutate: $(READY) $(BUILT)
	$(RUN) tests/mutate.py $(ARGS)

fuzz: $(READY) $(BUILT)
	$(RUN) -m tests.fuzz $(ARGS)

# The same calls in a copy of the sources, build/asan, whose kernels and op layer are built with AddressSanitizer. The
# sanitizer is loaded before Python. Leaks are not reported, because PyTorch leaks at exit. The shadow gap is not
# protected, because CUDA needs it. A report ends the child, which counts as a signal.
ASAN := build/asan
ASAN_RUN := $(if $(READY),$(abspath $(VENV))/bin/python,$(PYTHON))
ASAN_ENV := PYTHONPATH="$(CURDIR)/$(ASAN)" TORCH_LIF_SANITIZE=address TORCH_LIF_CUDA=0
# libstdc++ is loaded with it: if it were loaded later, its exceptions would end the process.
ASAN_FIRST = $(foreach library,libasan.so libstdc++.so.6,$(shell $(CC) -print-file-name=$(library)))
ASAN_OPTIONS := detect_leaks=0:protect_shadow_gap=0:allocator_may_return_null=1:abort_on_error=1

$(ASAN)/built: $(SOURCES) $(CHOSEN) | $(READY)
	mkdir -p $(ASAN)
	tar cf - --exclude='*.so' setup.py pyproject.toml README.md LICENSE csrc torch_lif | tar xf - -C $(ASAN)
	cd $(ASAN) && $(ASAN_ENV) $(ASAN_RUN) setup.py --quiet build_ext --inplace
	touch $@

fuzz-asan: $(ASAN)/built
	tar cf - --exclude='*.so' torch_lif tests | tar xf - -C $(ASAN)
	cd $(ASAN) && $(ASAN_ENV) ASAN_OPTIONS=$(ASAN_OPTIONS) LD_PRELOAD="$(ASAN_FIRST)" \
	  $(ASAN_RUN) -m tests.fuzz --hang 120 $(ARGS)

# norse asks for torchvision, which its functional part does not need, and is built here without isolation: hence a line
# of its own.
$(VENV)/peers-ready: | $(READY)
	echo "$(TORCH)" > $(VENV)/constraints.txt
	$(VENV)/bin/python -m pip install --quiet --constraint $(VENV)/constraints.txt --no-build-isolation rockpool==3.1.0 sinabs==3.1.3
	$(VENV)/bin/python -m pip install --quiet --constraint $(VENV)/constraints.txt "setuptools_scm>=8" nir nirtorch
	$(VENV)/bin/python -m pip install --quiet --constraint $(VENV)/constraints.txt --no-build-isolation --no-deps norse==1.1.0
	touch $@

test-peers: $(READY) $(BUILT) $(VENV)/peers-ready
	$(RUN) -m pytest tests/peers $(ARGS)

train: $(READY) $(BUILT)
	$(RUN) examples/train_images.py $(ARGS)

bench: $(READY) $(BUILT)
	$(RUN) -m benchmarks layer lif $(if $(ARGS),$(ARGS),--quick)

# Only the objects of the CUDA half, for machines that have nvcc but no GPU and no CUDA build of PyTorch.
cuda-objects: $(READY)
	$(RUN) csrc/compile.py cuda --out build/cuda-objects

$(VENV)/lint-ready: pyproject.toml | $(VENV)/ready
	$(VENV)/bin/python -m pip install --quiet ruff==0.17.6 mypy==2.4.1 clang-format==23.1.5
	touch $@

C_SOURCES = $(shell git ls-files '*.c' '*.h' '*.cpp' '*.cu')

lint: $(VENV)/lint-ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/clang-format --dry-run -Werror $(C_SOURCES)
	$(VENV)/bin/mypy

format: $(VENV)/lint-ready
	$(VENV)/bin/ruff check --fix-only --quiet .
	$(VENV)/bin/ruff format --quiet .
	$(VENV)/bin/clang-format -i $(C_SOURCES)

clean:
	rm -rf build torch_lif/*.so
