#!/bin/sh
# Installs libbyol into an empty folder and builds a host application against it from another empty folder, in every way
# that is promised: pkg-config shared and static, CMake shared and static, C and C++, a clang module, an unpacked `make
# dist`. Each program runs with no environment, and must find the ONNX Runtime that was installed with it. All of it
# again after the folder was moved.
# Needs target/release/libbyol.so and the command byol (BYOL_COMMAND), which writes the encoder.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
byol=${BYOL_COMMAND:-target/release/byol}
sh src/native/need.sh cc c++ cmake pkg-config make
# Not below target/, from where libbyol would find the checkout's ONNX Runtime.
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
unset BYOL_ONNXRUNTIME PKG_CONFIG_PATH CMAKE_PREFIX_PATH LD_LIBRARY_PATH
"$byol" --quiet export --encoder resnet18 --stem small-stride2 --width 4 --blocks 1,1 --pool grid2 --channels 1 \
    --image-size 28 --seed 1 --output "$place/encoder.onnx" >/dev/null

passed=0
# check TITLE PREFIX PROGRAM: the program finds the ONNX Runtime below PREFIX, and computes what the first one did.
check() {
    if ! env -i "$3" "$place/encoder.onnx" >"$place/said" 2>&1; then
        echo "$1: FAILED"
        cat "$place/said"
        exit 1
    fi
    grep -q "\"library\":\"$2/" "$place/said" || { echo "$1: not the ONNX Runtime of $2: $(cat "$place/said")"; exit 1; }
    cut -d' ' -f1 "$place/said" >"$place/sum"
    [ -f "$place/first" ] || cp "$place/sum" "$place/first"
    cmp -s "$place/sum" "$place/first" || { echo "$1: other features"; exit 1; }
    echo "install: $1: ok"
    passed=$((passed + 1))
}

# A statically linked program is its own libbyol, so what lies beside libbyol must lie beside it.
beside() {
    mkdir -p "$(dirname "$2")/byol"
    cp -P "$1"/lib/byol/libonnxruntime.so* "$(dirname "$2")/byol/"
}

# build_and_run WHERE PREFIX
build_and_run() {
    where=$1 prefix=$2
    work=$(mktemp -d "$place/work-XXXXXX")
    cd "$work"
    cp "$root/tests/c/install/features.c" "$root/tests/c/install/CMakeLists.txt" .
    cp features.c features.cc
    pc() { env PKG_CONFIG_PATH="$prefix/lib/pkgconfig" pkg-config "$@"; }
    [ "$(pc --modversion byol)" = "$(pc --modversion byol-static)" ]
    rpath=-Wl,-rpath,$(cd "$(pc --variable=libdir byol)" && pwd)
    # shellcheck disable=SC2046
    {
        cc features.c -o shared $(pc --cflags --libs byol) "$rpath"
        check "$where, C, pkg-config" "$prefix" "$work/shared"
        c++ features.cc -o shared++ $(pc --cflags --libs byol) "$rpath"
        check "$where, C++, pkg-config" "$prefix" "$work/shared++"
        mkdir static
        cc features.c -o static/c $(pc --static --cflags --libs byol-static)
        c++ features.cc -o static/cpp $(pc --static --cflags --libs byol-static)
        beside "$prefix" "$work/static/c"
        check "$where, C, pkg-config byol-static" "$work/static" "$work/static/c"
        check "$where, C++, pkg-config byol-static" "$work/static" "$work/static/cpp"
        # Where only the archive is there, byol.pc itself with --static is enough.
        cp -a "$prefix" only-archive
        rm only-archive/lib/libbyol.so*
        cc features.c -o static/only $(PKG_CONFIG_PATH=only-archive/lib/pkgconfig pkg-config --static --cflags --libs byol)
        check "$where, C, pkg-config --static" "$work/static" "$work/static/only"
    }
    for program in static/c static/cpp static/only; do
        if readelf -d "$program" | grep -q libbyol; then
            echo "$program is linked to libbyol.so"
            exit 1
        fi
    done
    readelf -d shared | grep -q 'NEEDED.*\[libbyol\.so\.0\]' || { echo 'shared does not need libbyol.so.0'; exit 1; }
    cmake -S . -B cmake -DCMAKE_PREFIX_PATH="$prefix" >cmake.log 2>&1 && cmake --build cmake >>cmake.log 2>&1 ||
        { cat cmake.log; exit 1; }
    beside "$prefix" "$work/cmake/c-static"
    for program in c-byol cpp-byol; do check "$where, CMake $program" "$prefix" "$work/cmake/$program"; done
    for program in c-static cpp-static; do check "$where, CMake $program" "$work/cmake" "$work/cmake/$program"; done
    if command -v clang >/dev/null; then
        echo '@import CByol; unsigned f(void) { return byol_version(); }' >module.m
        clang -fmodules -fmodules-cache-path="$work/modules" -fmodule-map-file="$prefix/include/byol/module.modulemap" \
            -fsyntax-only -Werror module.m
        echo "install: $where, clang module: ok"
        passed=$((passed + 1))
    fi
    cd "$root"
    rm -r "$work"
}

sh src/native/install.sh "$place/first-prefix" sdk >/dev/null
cp -P .native/onnxruntime/lib/*.so* "$place/first-prefix/lib/byol/"
globals=$(nm "$place/first-prefix/lib/libbyol.a" | awk '$2 ~ /^[A-Z]$/ && $2 != "U" && $3 !~ /^byol_/')
[ -z "$globals" ] || { echo "libbyol.a has other global symbols: $globals"; exit 1; }
if ldd "$place/first-prefix/lib/libbyol.so" | grep -iE 'torch|not found'; then exit 1; fi
if grep -rIlE "$place|$root" "$place/first-prefix"; then echo 'the files above name this machine'"'"'s folders'; exit 1; fi
build_and_run installed "$place/first-prefix"
mv "$place/first-prefix" "$place/elsewhere"
build_and_run moved "$place/elsewhere"

sh src/native/dist.sh >"$place/dist"
sh src/native/dist.sh | cmp -s "$place/dist" - || exit 1
cp "$(cat "$place/dist")" "$place/one.tar.gz"
sh src/native/dist.sh >/dev/null
cmp "$(cat "$place/dist")" "$place/one.tar.gz" || { echo 'make dist is not reproducible'; exit 1; }
mkdir "$place/unpacked"
tar -C "$place/unpacked" -xzf "$place/one.tar.gz"
build_and_run unpacked "$(echo "$place"/unpacked/byol-*)"
echo "$passed passed, 0 failed"
