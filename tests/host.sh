#!/bin/sh
# Tests the web application of examples/host: its server with the race detector, its page in headless Chromium.
#
#   BYOL_TEST_SCREENSHOT  a file for a picture of the page, such as docs/host.png
set -eu
cd "$(dirname "$0")/.."
command -v go >/dev/null || { echo "go is missing: install Go 1.24 or later" >&2; exit 1; }
python3 src/native/fetch.py onnxruntime
out=$PWD/target/tests/host
mkdir -p "$out"
export BYOL_ONNXRUNTIME="${BYOL_ONNXRUNTIME:-$PWD/.native/onnxruntime/lib}" BYOL_TEST_ENCODER="$out/encoder.onnx"
if [ -e target/demo/encoder.onnx ]; then
    cp target/demo/encoder.onnx "$BYOL_TEST_ENCODER"
else
    sh tests/bindings/encoder.sh "$BYOL_TEST_ENCODER"
fi
cd examples/host
go vet -tags byol_intree ./...
go test -tags byol_intree -race -count=1 -v ./... >"$out/log" 2>&1 || { cat "$out/log"; exit 1; }
grep -E '^(---|ok|    browser_test)' "$out/log"
