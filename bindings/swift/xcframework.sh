#!/bin/sh
# Makes byol.xcframework beside Package.swift, from libbyol's static library for macOS, iOS and its simulator. Runs on a
# Mac with Xcode and the Rust targets named below (rustup target add ...). No Mac has been available to run it yet; the
# package itself is tested on Linux.
#
# ONNX Runtime is loaded at run time: an app carries its own copy (Frameworks/libonnxruntime.dylib or the onnxruntime
# framework) and gives its path to Runtime(library:).
set -eu
cd "$(dirname "$0")"
[ "$(uname)" = Darwin ] || { echo "xcframework.sh: needs a Mac with Xcode; elsewhere pkg-config finds libbyol" >&2; exit 1; }
export MACOSX_DEPLOYMENT_TARGET=13.0 IPHONEOS_DEPLOYMENT_TARGET=16.0
target=$(cd ../.. && pwd)/target
out=$target/xcframework
rm -rf "$out" byol.xcframework
mkdir -p "$out/include" "$out/macos" "$out/simulator"
for triple in aarch64-apple-darwin x86_64-apple-darwin aarch64-apple-ios aarch64-apple-ios-sim x86_64-apple-ios; do
    cargo build --release -p byol-ffi --target "$triple"
done
lipo -create "$target"/aarch64-apple-darwin/release/libbyol.a "$target"/x86_64-apple-darwin/release/libbyol.a \
    -output "$out/macos/libbyol.a"
lipo -create "$target"/aarch64-apple-ios-sim/release/libbyol.a "$target"/x86_64-apple-ios/release/libbyol.a \
    -output "$out/simulator/libbyol.a"
cp ../../include/byol.h "$out/include/"
cat >"$out/include/module.modulemap" <<'MAP'
module CByol {
    header "byol.h"
    export *
}
MAP
xcodebuild -create-xcframework \
    -library "$out/macos/libbyol.a" -headers "$out/include" \
    -library "$target/aarch64-apple-ios/release/libbyol.a" -headers "$out/include" \
    -library "$out/simulator/libbyol.a" -headers "$out/include" \
    -output byol.xcframework
