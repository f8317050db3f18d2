"""Opens libbyol_cuda.so as byol does, every symbol resolved against this python's torch, and calls what needs a device.

usage: load.py LIBRARY [SYMBOLS]
Without a GPU the calls must say so and nothing worse. SYMBOLS is written: what the library takes from torch's CUDA half.
"""
import ctypes
import os
import pathlib
import subprocess
import sys

import torch

library = sys.argv[1]
folder = pathlib.Path(torch.__file__).parent / "lib"
ctypes.CDLL(str(folder / "libtorch_cuda.so"), mode=os.RTLD_NOW | os.RTLD_GLOBAL)
byol = ctypes.CDLL(library, mode=os.RTLD_NOW)
byol.byol_cuda_version.restype = ctypes.c_char_p
print(f"libbyol_cuda.so {byol.byol_cuda_version().decode()} with torch {torch.__version__}, NCCL {torch.cuda.nccl.version()}: loaded")
byol.byol_cuda_text_free.argtypes = [ctypes.c_void_p]
byol.byol_cuda_text_free.restype = None


def says(name, *arguments):
    function = getattr(byol, "byol_cuda_" + name)
    function.restype = ctypes.c_void_p
    text = function(*arguments)
    if text is None:
        return None
    said = ctypes.string_at(text).decode()
    byol.byol_cuda_text_free(text)
    return said


for name in ("graph_free", "graph_enter", "graph_leave", "graph_begin", "graph_end", "graph_give_up", "graph_replay"):
    getattr(byol, "byol_cuda_" + name)
if not torch.cuda.is_available():
    out = ctypes.c_void_p()
    for name, arguments in (("graph_new", (ctypes.c_int(0), ctypes.byref(out))),
                            ("nccl_open", (None, 0, 1, ctypes.c_int64(1000), ctypes.byref(out)))):
        said = says(name, *arguments)
        print(f"{name}: {said}")
        assert said and "NVIDIA driver" in said


def symbols(file, which):
    done = subprocess.run(["nm", "-D", which, str(file)], stdout=subprocess.PIPE, text=True, check=True)
    return {line.split()[-1].split("@")[0] for line in done.stdout.splitlines()}


if len(sys.argv) > 2:
    ours = set()
    for file in [folder / "libtorch_cuda.so", folder / "libc10_cuda.so", *folder.parents[1].glob("nvidia/*/lib/libcudart.so.*")]:
        ours |= symbols(file, "--defined-only")
    for name in ("libtorch_cpu.so", "libc10.so"):
        ours -= symbols(folder / name, "--defined-only")
    pathlib.Path(sys.argv[2]).write_text("".join(f"{s}\n" for s in sorted(ours & symbols(library, "--undefined-only"))))
