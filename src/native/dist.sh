#!/bin/sh
# Packs what a host application needs into target/dist/byol-VERSION-SYSTEM.tar.gz, to be unpacked anywhere.
# The same input gives the same bytes: names sorted, one owner, the time of the last commit (or SOURCE_DATE_EPOCH).
set -eu
cd "$(dirname "$0")/../.."
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
name=byol-$version-$(uname -s | tr '[:upper:]' '[:lower:]')-$(uname -m)
out=${CARGO_TARGET_DIR:-target}/dist
rm -rf "${out:?}/$name" "$out/$name.tar.gz"
mkdir -p "$out"
# A tarball without ONNX Runtime would not run by itself, whatever this machine's user has set.
unset BYOL_ONNXRUNTIME
sh src/native/install.sh "$out/$name" sdk >/dev/null
cp README.md LICENSE CHANGELOG.md "$out/$name/"
if [ -f docs/c-guide.md ]; then cp docs/c-guide.md "$out/$name/"; fi
mkdir "$out/$name/examples"
cp examples/c/*.c "$out/$name/examples/"
cp examples/cpp/*.cpp "$out/$name/examples/"
time=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
tar -C "$out" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$time" -cf - "$name" | gzip -9n >"$out/$name.tar.gz"
rm -r "${out:?}/$name"
echo "$out/$name.tar.gz"
