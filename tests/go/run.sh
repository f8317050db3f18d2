#!/bin/sh
# Formats, vets and tests the Go binding against target/release, with the race detector and with cgo's strictest checks.
set -eu
cd "$(dirname "$0")/../.."
command -v go >/dev/null || { echo "go is missing: install Go 1.24 or later" >&2; exit 1; }
out=$PWD/target/tests/go
for file in target/release/byol target/release/libbyol.so; do
    [ -e "$file" ] || { echo "$file is missing: run 'cargo build --release' first" >&2; exit 1; }
done
[ -n "${BYOL_ONNXRUNTIME:-}" ] || python3 src/native/fetch.py onnxruntime
mkdir -p "$out"
target/release/byol --quiet export --encoder resnet18 --width 8 --stem small --image-size 28 --channels 1 \
    -o "$out/encoder.onnx" >/dev/null
export BYOL_TEST_ENCODER="$out/encoder.onnx"
cd bindings/go
unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || { echo "not as gofmt has it: $unformatted" >&2; exit 1; }
go vet -tags byol_intree ./...
go test -tags byol_intree -race -count=1 ./...
GOEXPERIMENT=cgocheck2 go test -tags byol_intree -count=1 ./...
