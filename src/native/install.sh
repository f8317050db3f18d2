#!/bin/sh
# Installs what was built: install.sh PREFIX [sdk]
# `sdk` is what a host application needs, and no libtorch: libbyol shared and static, headers, pkg-config, CMake, ONNX
# Runtime. Without it, also the command byol and libtorch. The result can be moved as a whole.
# The native libraries go to PREFIX/lib/byol, where they are in nobody's way and where byol and libbyol look first; who
# set LIBTORCH or BYOL_ONNXRUNTIME keeps using those.
# Not cargo-c, whose layout this keeps (libbyol.so.0 and its links, libbyol.a, byol.pc): it has no CMake package, no
# relocatable .pc, no place for ONNX Runtime, and leaves every symbol of the archive global. One tool less to install, too.
# Remove: cd PREFIX && rm -r bin/byol include/byol* lib/byol lib/libbyol.* lib/cmake/byol lib/pkgconfig/byol*.pc
set -eu
[ $# -ge 1 ] || { echo 'usage: install.sh PREFIX [sdk]' >&2; exit 2; }
prefix=$1
part=${2:-all}
cd "$(dirname "$0")/../.."
built=${CARGO_TARGET_DIR:-target}/release
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
major=${version%%.*}
# What `cargo rustc -p byol-ffi --crate-type staticlib -- --print native-static-libs` names, less what is in libc anyway.
system='-lgcc_s -lpthread -lm -ldl'

install -d "$prefix/include/byol" "$prefix/lib/byol" "$prefix/lib/pkgconfig" "$prefix/lib/cmake/byol"
# One file with the whole version in its name; what programs ask for (the SONAME) and what linkers look for are links.
install -m 755 "$built/libbyol.so" "$prefix/lib/libbyol.so.$version"
strip --strip-unneeded "$prefix/lib/libbyol.so.$version"
ln -sf "libbyol.so.$version" "$prefix/lib/libbyol.so.$major"
ln -sf "libbyol.so.$major" "$prefix/lib/libbyol.so"
sh src/native/archive.sh "$built/libbyol.a" "$prefix/lib/libbyol.a"
chmod 644 "$prefix/lib/libbyol.a"

install -m 644 include/byol.h "$prefix/include/"
if [ -f include/byol.hpp ]; then install -m 644 include/byol.hpp "$prefix/include/"; fi
# A map beside the header would speak for everybody's include folder.
sed 's,"byol.h","../byol.h",' include/module.modulemap >"$prefix/include/byol/module.modulemap"
fill() {
    sed -e "s/@VERSION@/$version/g" -e "s/@MAJOR@/$major/g" -e "s/@SYSTEM_LIBRARIES@/$3/g" "src/native/package/$1.in" >"$2/$1"
}
fill byol.pc "$prefix/lib/pkgconfig" "$system"
fill byol-static.pc "$prefix/lib/pkgconfig" "$system"
fill byolConfig.cmake "$prefix/lib/cmake/byol" "$(echo "$system" | tr ' ' ';')"
fill byolConfigVersion.cmake "$prefix/lib/cmake/byol" ''

if [ -z "${BYOL_ONNXRUNTIME:-}" ]; then cp -P .native/onnxruntime/lib/*.so* "$prefix/lib/byol/"; fi
if [ "$part" = all ]; then
    install -d "$prefix/bin"
    install -m 755 "$built/byol" "$prefix/bin/"
    # Where `make cuda` was asked for.
    if [ -f "$built/libbyol_cuda.so" ]; then install -m 755 "$built/libbyol_cuda.so" "$prefix/lib/byol/"; fi
    if [ -z "${LIBTORCH:-}" ]; then cp -P .native/libtorch/lib/*.so* "$prefix/lib/byol/"; fi
fi
echo "installed in $prefix"
