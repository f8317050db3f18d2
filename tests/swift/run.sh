#!/bin/sh
# Builds and tests the Swift binding against target/release, in Debian's own Swift (tests/swift/toolchain.sh), with every
# warning an error. Where that Swift can't be had, says so and ends well; in CI that is a failure.
set -eu
cd "$(dirname "$0")/../.."
for file in target/release/byol target/release/libbyol.so; do
    [ -e "$file" ] || { echo "$file is missing: run 'cargo build --release' first" >&2; exit 1; }
done
missing=
[ "$(id -u)" = 0 ] || missing="root, for chroot"
command -v debootstrap >/dev/null || missing="debootstrap"
command -v unshare >/dev/null || missing="unshare"
if [ -n "$missing" ]; then
    echo "SWIFT IS NOT TESTED HERE: that needs $missing" >&2
    [ -z "${CI:-}" ]
    exit
fi
python3 src/native/fetch.py onnxruntime
out=target/tests/swift
mkdir -p "$out"
# Swift takes headers of the system for unchanging, and keeps objects with the old sizes of structs.
cmp -s include/byol.h "$out/byol.h" || rm -rf "$out/build"
cp include/byol.h "$out/byol.h"
sh tests/bindings/encoder.sh "$out/encoder.onnx"
python3 tests/bindings/layout.py >"$out/layout.tsv"
# What `make install` installs, with the checkout's folders as the tests see them.
cat >"$out/byol.pc" <<PC
Name: byol
Description: libbyol of this checkout
Version: $(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
Cflags: -I/byol/include
Libs: -L/byol/target/release -lbyol
PC
# swift TEXT COMMAND ARGUMENTS...: runs swift in the package, with further variables.
swift() {
    variables=$1
    shift
    BYOL_INSIDE="PKG_CONFIG_PATH=/byol/$out LD_LIBRARY_PATH=/byol/target/release BYOL_TEST_ENCODER=/byol/$out/encoder.onnx
        BYOL_TEST_LAYOUT=/byol/$out/layout.tsv BYOL_TEST_HEADER=/byol/include/byol.h
        BYOL_TEST_ROOT=/byol $variables" \
        sh tests/swift/inside.sh /byol/bindings/swift swift "$@"
}
swift '' format lint --strict --recursive Sources Tests Package.swift
swift '' test --scratch-path "/byol/$out/build" -Xswiftc -warnings-as-errors
swift 'BYOL_TEST_ALONE=1 BYOL_ONNXRUNTIME=/no/such/place' test --scratch-path "/byol/$out/build" -Xswiftc -warnings-as-errors \
    --skip-build --disable-swift-testing --filter AloneTests
# What only Apple's systems compile, against a stand-in: the types fit, no more is known here.
mkdir -p "$out/apple"
sh tests/swift/inside.sh "/byol/$out/apple" swiftc -parse-as-library -emit-module -module-name CoreGraphics \
    -o CoreGraphics.swiftmodule /byol/tests/swift/CoreGraphics.swift
sh tests/swift/inside.sh "/byol/$out/apple" sh -c 'swiftc -typecheck -swift-version 6 -warnings-as-errors -module-name Byol \
    -I . -I /byol/include /byol/bindings/swift/Sources/Byol/*.swift'
echo 'Swift: built without a warning and tested; what is for CGImage checked against a stand-in'
