#!/bin/sh
# One truth: C, C++, Go, Rust and Swift print what they make of the same inputs, every float by its bits, and all must
# print the same. (tests/golden.rs compares with what was recorded, which another processor meets only nearly.)
#
# The inputs: twelve pictures of tests/data/pictures and one made picture of each pixel format through
# tests/data/encoder/uint8.onnx, whose features stock onnxruntime agreed with when it was recorded; a head fitted to them;
# the head in tests/data/golden; metrics; neighbours.
set -eu
cd "$(dirname "$0")/../.."
python3 src/native/fetch.py onnxruntime
export BYOL_ONNXRUNTIME="${BYOL_ONNXRUNTIME:-$PWD/.native/onnxruntime/lib}" LD_LIBRARY_PATH="$PWD/target/release"
out=target/tests/golden
rm -rf "$out"
mkdir -p "$out"
warnings='-O2 -Wall -Wextra -Wpedantic -Werror'
# shellcheck disable=SC2086
${CC:-cc} -std=c11 $warnings -Iinclude tests/bindings/golden.c -o "$out/c" -Ltarget/release -lbyol
"$out/c" . >"$out/c.txt"
# shellcheck disable=SC2086
${CXX:-c++} -std=c++17 $warnings -Iinclude tests/bindings/golden.cpp -o "$out/cpp" -Ltarget/release -lbyol
"$out/cpp" . >"$out/cpp.txt"
BYOL_TEST_GOLDEN="$PWD/$out/rust.txt" cargo test --release --quiet --test golden >"$out/rust.log" 2>&1 || { cat "$out/rust.log"; exit 1; }
failed=0
skip() {
    echo "GOLDEN VECTORS IN $1 ARE NOT COMPARED HERE: that needs $2" >&2
    [ -z "${CI:-}" ] || failed=1
}
if command -v go >/dev/null; then
    (cd bindings/go && BYOL_TEST_GOLDEN="../../$out/go.txt" go test -count=1 -tags byol_intree -run '^TestGolden$' . >/dev/null)
else
    skip GO 'Go 1.24 or later'
fi
# tests/swift/run.sh built the tests there.
if [ "$(id -u)" = 0 ] && [ -d target/tests/swift/build ]; then
    BYOL_INSIDE="PKG_CONFIG_PATH=/byol/target/tests/swift LD_LIBRARY_PATH=/byol/target/release BYOL_TEST_ROOT=/byol
        BYOL_TEST_GOLDEN=/byol/$out/swift.txt" sh tests/swift/inside.sh /byol/bindings/swift \
        swift test --scratch-path /byol/target/tests/swift/build -Xswiftc -warnings-as-errors --disable-swift-testing \
        --filter GoldenTests >"$out/swift.log" 2>&1 || { cat "$out/swift.log"; exit 1; }
else
    skip SWIFT 'root, and tests/swift/run.sh before it'
fi
for file in "$out"/*.txt; do
    cmp "$out/c.txt" "$file" || failed=1
done
if cmp -s "$out/c.txt" tests/data/golden/vectors.txt; then same=the; else same='nearly the'; fi
echo "golden: $(wc -l <"$out/c.txt") lines, the same bits in $(cd "$out" && basename -a -s .txt -- *.txt | tr '\n' ' ')and $same recorded ones"
[ $failed = 0 ]
