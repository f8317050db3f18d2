#!/bin/sh
# The C tests with threads under ThreadSanitizer: all of libbyol and its crates are instrumented, and the test programs. Any
# report fails. Not instrumented: Rust's standard library (rustc ships it compiled; process/race.c stands in for the few of
# its functions that order threads) and ONNX Runtime.
#
#   BYOL_ONLY    names of the programs to run (threads close)
set -eu
cd "$(dirname "$0")/../.."
sh src/native/need.sh cargo cc
out=${BYOL_OUT:-target/tests/c-race}
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=thread \
    cargo build --release -p byol-ffi --target "$host" --target-dir target/race-build
