"""Peak memory of `byol extract` from few to many pictures, and the opening of a model beside onnxruntime's own.

usage: memory.py BYOL SMALL_ENCODER.onnx [--counts 1000,10000,100000] [--ending npy|safetensors|parquet] [--files]
                 [--open LATENCY ENCODER.onnx] [--rounds 3]

The pictures are one JPEG of 28 x 28, many times in a tar file, so that what is read grows with their number and their
content does not matter; with --files, as many links to one file in a folder. LATENCY is the program of tests/bench/latency.rs (`cargo bench --no-run --bench latency` names
it); it opens ENCODER.onnx in three ways, each in a process of its own, in turn with onnxruntime, which also opens it in a
process of its own. Prints one line for each. Needs: numpy, pillow, onnxruntime.
"""
import argparse
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

OPEN = """
import onnxruntime, sys, time
def kib(line):
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(line))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
before, start = kib("VmRSS"), time.perf_counter()
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
took = time.perf_counter() - start
print(f'onnxruntime {onnxruntime.__version__}: {took * 1e3:.1f} ms, held {kib("VmRSS") - before} KiB, peak {kib("VmHWM") - before} KiB')
"""

parser = argparse.ArgumentParser()
parser.add_argument("byol")
parser.add_argument("encoder", type=pathlib.Path)
parser.add_argument("--counts", default="1000,10000,100000")
parser.add_argument("--ending", default="npy")
parser.add_argument("--files", action="store_true")
parser.add_argument("--open", nargs=2, metavar=("LATENCY", "ENCODER"))
parser.add_argument("--rounds", type=int, default=3)
arguments = parser.parse_args()


def jpeg():
    import numpy as np
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


def peak(count, folder, picture):
    """Seconds, and KiB of the largest resident set."""
    data = folder / (f"{count}" if arguments.files else f"{count}.tar")
    if arguments.files:
        data.mkdir()
        (folder / "one.jpg").write_bytes(picture)
        for i in range(count):
            (data / f"{i:08}.jpg").symlink_to(folder / "one.jpg")
    else:
        with tarfile.open(data, "w") as archive:
            for i in range(count):
                entry = tarfile.TarInfo(f"{i:08}.jpg")
                entry.size = len(picture)
                archive.addfile(entry, io.BytesIO(picture))
                # A program's peak counts what its parent held when it was started, so nothing may gather here.
                archive.members.clear()
    out = folder / f"{count}.{arguments.ending}"
    command = [arguments.byol, "--json", "--quiet", "extract", arguments.encoder, "--data", data, "-o", out]
    start = time.perf_counter()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE)
    report = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0 and report["pictures"] == count, (status, report)
    shutil.rmtree(data) if arguments.files else data.unlink()
    out.unlink()
    return time.perf_counter() - start, usage.ru_maxrss


with tempfile.TemporaryDirectory() as folder:
    picture = jpeg()
    for count in map(int, arguments.counts.split(",")):
        seconds, kib = peak(count, pathlib.Path(folder), picture)
        print(f"{count} pictures: peak {kib} KiB, {seconds:.1f} s, {count / seconds:.0f} pictures/s", flush=True)

if arguments.open:
    latency, model = arguments.open
    for _ in range(arguments.rounds):
        print(subprocess.run([latency, "open", model], check=True, capture_output=True, text=True).stdout, end="", flush=True)
        subprocess.run([sys.executable, "-c", OPEN, model, str(len(os.sched_getaffinity(0)))], check=True)
