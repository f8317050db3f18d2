#!/bin/sh
# Makes a folder with Debian trixie and its Swift, and prints its path: the newest Swift that comes from a distribution's
# own packages. Made once, about two minutes and 2 GB; needs root, debootstrap, and a Debian mirror.
#
#   BYOL_SWIFT_ROOT    the folder   (byol/debian-swift in XDG_CACHE_HOME, or in ~/.cache)
#   BYOL_DEBIAN_MIRROR the mirror   (the one that apt is configured with)
set -eu
packages='swiftlang clang git ca-certificates pkg-config libc6-dev gdb-minimal'
root=${BYOL_SWIFT_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/byol/debian-swift}
mkdir -p "$(dirname "$root")"
# One at a time; the second waits, and finds it made.
exec 9>"$root.lock"
flock 9
if [ "$(cat "$root/etc/byol-packages" 2>/dev/null)" != "$packages" ]; then
    mirror=${BYOL_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(SITE) $(CODENAME) $(ORIGIN)' 2>/dev/null |
        awk '$3 == "Debian" && $2 !~ /-/ {print $1; exit}')}
    [ -n "$mirror" ] || { echo "swift: no Debian mirror is known: set BYOL_DEBIAN_MIRROR" >&2; exit 1; }
    rm -rf --one-file-system "$root" "$root.new"
    {
        debootstrap --variant=minbase trixie "$root.new" "$mirror"
        # Its own mounts end with the namespace, so that nothing of this machine is ever mounted in the folder for long.
        PACKAGES=$packages ROOT=$root.new unshare --mount --propagation private sh -c '
            mount -t proc proc "$ROOT/proc"
            export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin
            chroot "$ROOT" apt-get install -qy --no-install-recommends $PACKAGES && chroot "$ROOT" apt-get clean'
    } >"$root.log" 2>&1 || { echo "swift: the folder could not be made; the end of $root.log:" >&2; tail -20 "$root.log" >&2; exit 1; }
    echo "$packages" >"$root.new/etc/byol-packages"
    mv "$root.new" "$root"
fi
echo "$root"
