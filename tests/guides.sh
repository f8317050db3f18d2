#!/bin/sh
# Does what the readers of docs/go-guide.md and docs/swift-guide.md do: every command, every program.
# Needs the demo's encoder. Swift is left out, loudly, where it can't be had; in CI that is a failure.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
[ -e target/demo/encoder.onnx ] || { echo 'guides: target/demo/encoder.onnx is missing: run make demo first' >&2; exit 1; }
python3 src/native/fetch.py onnxruntime
unset BYOL_ONNXRUNTIME PKG_CONFIG_PATH LD_LIBRARY_PATH
cargo=${CARGO_HOME:-$HOME/.cargo} rustup=${RUSTUP_HOME:-$HOME/.rustup} gocache=$(go env GOCACHE)
out=$root/target/tests/guides
rm -rf "$out"
mkdir -p "$out/go/home" "$out/go/sorter" "$out/swift/home" "$out/swift/sorter"
# in_guide FOLDER SCRIPT: runs a script as somebody whose home is FOLDER/home, in the empty folder of his program.
in_guide() {
    (cd "$1/sorter" && HOME="$1/home" CARGO_HOME=$cargo RUSTUP_HOME=$rustup GOCACHE=$gocache BYOL=$root sh "$2")
}
python3 tests/bindings/guide.py docs/go-guide.md >"$out/go/script"
in_guide "$out/go" "$out/go/script" >"$out/go/log" 2>&1 || { cat "$out/go/log"; exit 1; }
tail -1 "$out/go/log"
if [ "$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null || ! command -v unshare >/dev/null; then
    echo 'THE SWIFT GUIDE IS NOT TESTED HERE: that needs root and debootstrap' >&2
    [ -z "${CI:-}" ]
    exit
fi
python3 tests/bindings/guide.py docs/swift-guide.md --install >"$out/swift/install"
python3 tests/bindings/guide.py docs/swift-guide.md --rest >"$out/swift/script"
in_guide "$out/swift" "$out/swift/install" >"$out/swift/log" 2>&1 || { cat "$out/swift/log"; exit 1; }
BYOL_INSIDE="HOME=/byol/target/tests/guides/swift/home BYOL=/byol BYOL_ONNXRUNTIME=" sh tests/swift/inside.sh \
    /byol/target/tests/guides/swift/sorter sh ../script >>"$out/swift/log" 2>&1 || { cat "$out/swift/log"; exit 1; }
tail -1 "$out/swift/log"
