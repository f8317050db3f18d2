#!/bin/sh
# Makes the static library for others to link: archive.sh IN.a OUT.a
# Cargo's own archive has every symbol of Rust's standard library and of all crates global, so that it clashes with the
# next Rust library in the same program. Here all of it becomes one object whose only global symbols are libbyol's.
set -eu
[ $# = 2 ] || { echo 'usage: archive.sh IN.a OUT.a' >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# The functions of the header are the roots; what they do not reach is left out.
sed -n 's/.*[ *]\(byol_[a-z0-9_]*\)(.*/\1/p' "$(dirname "$0")/../../include/byol.h" | sort -u >"$folder/mentioned"
nm --defined-only -g "$1" 2>/dev/null | sed -n 's/.* T \(byol_[a-z0-9_]*\)$/\1/p' | sort -u >"$folder/defined"
comm -12 "$folder/mentioned" "$folder/defined" >"$folder/roots"
[ -s "$folder/roots" ] || { echo "$1 defines no function of byol.h" >&2; exit 1; }
# shellcheck disable=SC2046
ld -r --gc-sections --force-group-allocation $(sed 's/^/-u /' "$folder/roots") "$1" -o "$folder/all.o"
# The standard library's objects carry LLVM bitcode beside their code. It is of no use here, and an ar or nm that has the
# plugin of another LLVM ends with an error on it. And --strip-unneeded takes the undefined symbols that nothing refers to
# any more: they are strong here, and weak in the next Rust archive.
objcopy --wildcard --keep-global-symbol='byol_*' --strip-unneeded \
    --remove-section=.llvmbc --remove-section=.llvmcmd "$folder/all.o" "$folder/byol.o"
rm -f "$2"
ar rcs "$2" "$folder/byol.o"
