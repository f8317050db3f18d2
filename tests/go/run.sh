#!/bin/sh
# Formats, vets and tests the Go binding against target/release: with the race detector, with cgo's strictest checks, under
# a garbage collector that never rests, and each fuzz target for a moment. Then builds a program with an installed libbyol,
# shared and static, from a folder that is not the checkout's.
#
#   BYOL_FUZZ_TIME  how long each fuzz target runs (3s)
set -eu
cd "$(dirname "$0")/../.."
command -v go >/dev/null || { echo "go is missing: install Go 1.24 or later" >&2; exit 1; }
version=$(GOTOOLCHAIN=local go env GOVERSION)
case $version in
    go1.2[4-9]* | go1.[3-9][0-9]* | go[2-9]*) ;;
    *) echo "$version is too old: the binding needs Go 1.24 or later" >&2; exit 1 ;;
esac
root=$PWD
out=$PWD/target/tests/go
for file in target/release/byol target/release/libbyol.so; do
    [ -e "$file" ] || { echo "$file is missing: run 'cargo build --release' first" >&2; exit 1; }
done
[ -n "${BYOL_ONNXRUNTIME:-}" ] || python3 src/native/fetch.py onnxruntime
mkdir -p "$out"
sh tests/bindings/encoder.sh "$out/encoder.onnx"
export BYOL_TEST_ENCODER="$out/encoder.onnx"
cd bindings/go
unformatted=$(gofmt -l . ../../examples)
[ -z "$unformatted" ] || { echo "not as gofmt has it: $unformatted" >&2; exit 1; }
go vet -tags byol_intree ./...
go test -tags byol_intree -race -count=1 ./...
GOEXPERIMENT=cgocheck2 GODEBUG=invalidptr=1 go test -tags byol_intree -count=1 ./...
GOGC=1 go test -tags byol_intree -count=1 -run 'TheWholeWay|ManyGoroutines|AFitStops|Mistakes' ./...
for target in $(sed -n 's/^func \(Fuzz[A-Za-z]*\).*/\1/p' fuzz_test.go); do
        go test -tags byol_intree -run '^$' -fuzz "^$target\$" -fuzztime "${BYOL_FUZZ_TIME:-3s}" \
        -fuzzminimizetime 20x . >"$out/$target.log" 2>&1 ||
        { cat "$out/$target.log"; exit 1; }
    echo "$target: $(grep -c 'fuzz: elapsed' "$out/$target.log") reports, $(tail -3 "$out/$target.log" | sed -n 's/.*execs: \([0-9]*\).*/\1/p' | tail -1) inputs"
done

# A program of somebody else's. Not below target/, from where libbyol would find the checkout's ONNX Runtime.
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
sh "$root/src/native/install.sh" "$place/sdk" sdk >/dev/null
cp -P "$root"/.native/onnxruntime/lib/*.so* "$place/sdk/lib/byol/"
cp -R "$root/bindings/go" "$place/byol"
mkdir "$place/program"
cd "$place/program"
cp "$root/examples/go/embed/main.go" .
go mod init program >/dev/null 2>&1
go mod edit -require byol@v0.0.0 -replace "byol=$place/byol"
export PKG_CONFIG_PATH="$place/sdk/lib/pkgconfig"
pictures=$(echo "$root"/tests/data/pictures/bag/*.png)
unset BYOL_ONNXRUNTIME
go build -o shared .
go build -tags byol_static -o static/program .
readelf -d shared | grep -q 'NEEDED.*libbyol' || { echo "shared: libbyol is not needed?" >&2; exit 1; }
if readelf -d static/program | grep libbyol; then
    echo "static: libbyol is needed" >&2
    exit 1
fi
# A statically linked program is its own libbyol, so what lies beside libbyol lies beside it.
mkdir static/byol
cp -P "$place"/sdk/lib/byol/*.so* static/byol/
# shellcheck disable=SC2086
env -i LD_LIBRARY_PATH="$place/sdk/lib" ./shared "$BYOL_TEST_ENCODER" $pictures >shared.txt
# shellcheck disable=SC2086
env -i ./static/program "$BYOL_TEST_ENCODER" $pictures >static.txt
cmp shared.txt static.txt
grep -q 'nearest: ' shared.txt
# Without an installed libbyol, the message names what was searched. (A build that is cached asks nobody.)
echo >>"$place/byol/byol.go"
if PKG_CONFIG_PATH=/no/such/folder go build -o none . 2>none.txt || ! grep -q byol.pc none.txt; then
    cat none.txt
    exit 1
fi
echo "Go: installed, shared and static, builds and runs"
