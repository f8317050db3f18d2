#!/bin/sh
# Builds the example programs in every language, runs them on the demo's encoder (or, before `make demo`, on an untrained
# one), and compares what they print: they are the same two programs, so it must be the same.
#
# Go and Swift are left out, loudly, where there is no such compiler; in CI that is a failure.
set -eu
cd "$(dirname "$0")/.."
out=target/tests/examples
rm -rf "$out"
mkdir -p "$out"
python3 src/native/fetch.py onnxruntime
export BYOL_ONNXRUNTIME="${BYOL_ONNXRUNTIME:-$PWD/.native/onnxruntime/lib}" LD_LIBRARY_PATH="$PWD/target/release"
encoder=target/demo/encoder.onnx
if [ ! -e "$encoder" ]; then
    echo "examples: $encoder is not there (make demo), so an untrained encoder stands in"
    encoder=$out/encoder.onnx
    sh tests/bindings/encoder.sh "$encoder"
fi
folders='tests/data/pictures/bag tests/data/pictures/sneaker tests/data/pictures/trouser'
languages=
failed=0
# example LANGUAGE EMBED TEACH: runs both programs of a language.
example() {
    # shellcheck disable=SC2086
    if ! $2 "$encoder" tests/data/pictures/*/*.png >"$out/$1.embed" || ! $3 "$encoder" "$out/$1.safetensors" $folders >"$out/$1.teach"; then
        echo "examples in $1: FAILED"
        failed=1
        return
    fi
    for program in embed teach; do
        if ! diff "$out/c.$program" "$out/$1.$program"; then
            echo "examples in $1: $program prints something else than the one in C"
            failed=1
        fi
    done
    languages="$languages $1"
}
skip() {
    echo "EXAMPLES IN $1 ARE NOT RUN HERE: that needs $2" >&2
    [ -z "${CI:-}" ] || failed=1
}

cc=${CC:-cc}
warnings='-O2 -Wall -Wextra -Wpedantic -Werror'
link="-Iinclude -Ltarget/release -lbyol -lm"
for program in embed teach; do
    # shellcheck disable=SC2086
    $cc -std=c11 $warnings examples/c/$program.c -o "$out/c-$program" $link
done
example c "$out/c-embed" "$out/c-teach"
grep -q 'nearest: tests/data/pictures/' "$out/c.embed"
grep -q '^3 classes, 9 pictures learned' "$out/c.teach"

for program in embed teach; do
    # shellcheck disable=SC2086
    ${CXX:-c++} -std=c++17 $warnings examples/cpp/$program.cpp -o "$out/cpp-$program" $link
done
example cpp "$out/cpp-embed" "$out/cpp-teach"

cargo build --release --quiet --example embed --example teach
example rust target/release/examples/embed target/release/examples/teach

if command -v go >/dev/null; then
    (cd examples/go && go vet -tags byol_intree ./... && go build -tags byol_intree -o "../../$out/go/" ./embed ./teach)
    example go "$out/go/embed" "$out/go/teach"
else
    skip GO 'Go 1.24 or later'
fi

if [ "$(id -u)" = 0 ] && command -v debootstrap >/dev/null && command -v unshare >/dev/null; then
    cat >"$out/byol.pc" <<PC
Name: byol
Description: libbyol of this checkout
Version: 0
Cflags: -I/byol/include
Libs: -L/byol/target/release -lbyol
PC
    inside() {
        BYOL_INSIDE="PKG_CONFIG_PATH=/byol/$out LD_LIBRARY_PATH=/byol/target/release" sh tests/swift/inside.sh "$@"
    }
    inside /byol/examples/swift/programs swift build -c release --scratch-path "/byol/$out/swift" -Xswiftc -warnings-as-errors
    swift_program() {
        name=$1
        shift
        inside /byol "$out/swift/release/$name" "$@"
    }
    example swift 'swift_program embed' 'swift_program teach'
else
    skip SWIFT 'root and debootstrap'
fi
cat "$out/c.teach"
echo "examples: the same output in$languages"
[ $failed = 0 ]
