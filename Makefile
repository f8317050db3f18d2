# Each target is a line or two; the work is done by cargo and by the scripts named here.

PREFIX ?= /usr/local
NEED := sh src/native/need.sh

.PHONY: help native build cuda sdk demo test bench soak fuzz race docs install install-sdk dist lint clean

help:
	@echo 'make native    fetch ONNX Runtime and libtorch into .native (once; 0.6 GB to download, 0.55 GB kept)'
	@echo 'make build     the command byol, with training, and libbyol, in target/release'
	@echo 'make cuda      libbyol_cuda.so beside it: CUDA graphs and NCCL, for a machine with GPUs; built without one (2.4 MB to'
	@echo '               download)'
	@echo 'make demo      learn from pictures, export, classify from C: everything, in minutes'
	@echo 'make test      every test, Rust and C'
	@echo 'make bench     the measurements quoted in docs/results.md'
	@echo 'make soak      the long tests of libbyol: 10^6 open and close, 1000 ends and forks, 10^5 damaged models, every'
	@echo '               allocation (an hour)'
	@echo 'make fuzz      five fuzz targets side by side, BYOL_FUZZ_SECONDS of each (60)'
	@echo 'make race      the tests with threads under ThreadSanitizer'
	@echo 'make docs      the reference of the C and C++ headers, in target/docs/html (doxygen)'
	@echo 'make lint      rustfmt and clippy, warnings are errors'
	@echo 'make install   into PREFIX (default /usr/local; DESTDIR is honoured): byol, libbyol, headers, native libraries'
	@echo 'make install-sdk  the same without the command and libtorch: what a host application needs (C, C++, Go, Swift)'
	@echo 'make dist      target/dist/byol-VERSION-SYSTEM.tar.gz: what install-sdk installs, to be unpacked anywhere'
	@echo 'make clean     remove what was built; .native stays (rm -r .native)'
	@echo
	@echo 'Without training, and so without libtorch: cargo build --release, cargo test --release'

native:
	@$(NEED) python3 pip
	@python3 src/native/fetch.py

build: native
	@$(NEED) cargo cc c++
	cargo build --release --workspace --features train

cuda: native
	@$(NEED) python3 pip c++
	@python3 src/native/fetch.py cuda
	sh src/native/cuda.sh

demo: build
	python3 examples/demo.py

test: native
	@$(NEED) cargo cc c++
	python3 tests/fetch.py
	cargo test --release
	cargo test --release --workspace --features train
	cargo build --release --workspace --features train
	sh tests/c/run.sh

bench: native
	@$(NEED) cargo cc c++
	cargo bench --workspace --features train
	cargo build --release
	sh tests/onnx_agrees.sh --environment
	target/python/bin/python tests/bench/call.py target/release/libbyol.so

soak: sdk
	cargo build --release
	BYOL_SOAK=1000000 BYOL_FORKS=1000 BYOL_MIX_SECONDS=60 BYOL_ONLY='soak close forked latency mixed threads' sh tests/c/run.sh
	cat target/tests/c/soak.log target/tests/c/close.log target/tests/c/forked.log target/tests/c/latency.log target/tests/c/mixed.log
	BYOL_FLIPS=100000 cargo test --release --test hostile_models -- --nocapture damaged
	BYOL_LEAVE=1000 sh tests/c/leave.sh
	BYOL_MEMORY_FINE=1 sh tests/c/memory.sh

fuzz:
	sh tests/fuzz/run.sh

race: sdk
	cargo build --release
	sh tests/c/race.sh

docs:
	@$(NEED) doxygen
	doxygen docs/Doxyfile
	@echo target/docs/html/index.html

lint: native
	@$(NEED) cargo cc c++ rustfmt clippy
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets --features train -- -D warnings

install: build
	sh src/native/install.sh '$(DESTDIR)$(PREFIX)'

sdk:
	@$(NEED) python3 pip cargo cc
	@python3 src/native/fetch.py onnxruntime
	cargo build --release -p byol-ffi

install-sdk: sdk
	sh src/native/install.sh '$(DESTDIR)$(PREFIX)' sdk

dist: sdk
	sh src/native/dist.sh

clean:
	cargo clean
