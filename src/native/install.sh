#!/bin/sh
# Installs what `make build` built: install.sh PREFIX
# The native libraries go to PREFIX/lib/byol, where they are in nobody's way; who set LIBTORCH or BYOL_ONNXRUNTIME
# keeps using those. Remove: rm -r
# PREFIX/lib/byol PREFIX/bin/byol PREFIX/lib/lib{byol,onnxruntime}.* PREFIX/include/byol.*
set -eu
prefix=$1
cd "$(dirname "$0")/../.."

install -d "$prefix/bin" "$prefix/lib/byol" "$prefix/include"
install -m 755 target/release/byol "$prefix/bin/"
install -m 755 target/release/libbyol.so "$prefix/lib/libbyol.so.0"
ln -sf libbyol.so.0 "$prefix/lib/libbyol.so"
install -m 644 target/release/libbyol.a "$prefix/lib/"
install -m 644 include/byol.h "$prefix/include/"
if [ -f include/byol.hpp ]; then install -m 644 include/byol.hpp "$prefix/include/"; fi
if [ -z "${BYOL_ONNXRUNTIME:-}" ]; then
    cp -P .native/onnxruntime/lib/*.so* "$prefix/lib/byol/"
    # byol and libbyol look in PREFIX/lib; a copy of somebody else's stays.
    [ -e "$prefix/lib/libonnxruntime.so.1" ] || ln -s byol/libonnxruntime.so.1 "$prefix/lib/libonnxruntime.so.1"
fi
if [ -z "${LIBTORCH:-}" ]; then cp -P .native/libtorch/lib/*.so* "$prefix/lib/byol/"; fi
echo "installed in $prefix"
