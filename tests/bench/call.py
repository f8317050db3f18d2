"""What libbyol costs on top: a call over the work that it asks for, and extraction over the runtime's own session.run.

usage: call.py LIBBYOL [ENCODER.onnx] [--rounds 7]

First tests/bench/call.c (nanoseconds a call). Then byol_extract_tensor through ctypes beside onnxruntime's session.run, the
same libonnxruntime version, the same file, the same uint8 tensors and number of threads, in turn, so that a busy minute falls on
both: a ResNet-18 at 224 with random weights if no file is named (made by the command `byol` beside LIBBYOL), batches of
1, 4 and 16. The ratio is that of the least times. Needs: a C compiler, numpy, onnxruntime (tests/requirements.txt).
"""
import argparse
import ctypes
import os
import pathlib
import subprocess
import tempfile
import time

import numpy
import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parents[2]


def call(library, folder):
    program = folder / "call"
    (folder / "libbyol.so.0").symlink_to(library)
    subprocess.run([os.environ.get("CC", "cc"), "-std=c11", "-D_POSIX_C_SOURCE=200809L", "-O2", "-I", ROOT / "include",
                    ROOT / "tests/bench/call.c", "-o", program, folder / "libbyol.so.0", f"-Wl,-rpath,{folder}"], check=True)
    print(subprocess.run([program], check=True, text=True, stdout=subprocess.PIPE).stdout, end="")


class Source(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint32), ("flags", ctypes.c_uint32), ("path", ctypes.c_char_p),
                ("data", ctypes.c_void_p), ("data_len", ctypes.c_size_t), ("sha256", ctypes.c_char_p)]


class Error(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint32), ("code", ctypes.c_int32), ("runtime_code", ctypes.c_int32),
                ("item_index", ctypes.c_uint32), ("message_len", ctypes.c_uint32), ("message", ctypes.c_char * 488)]


def handle(value=0):
    return ctypes.c_uint64(value)


def extraction(library, model, rounds):
    byol = ctypes.CDLL(library)
    error = Error(struct_size=ctypes.sizeof(Error))

    def must(status):
        if status != 0:
            raise SystemExit(error.message.decode())

    source, encoder = Source(struct_size=ctypes.sizeof(Source), path=str(model).encode()), handle()
    must(byol.byol_encoder_open(handle(), ctypes.byref(source), None, ctypes.byref(encoder), ctypes.byref(error)))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    # As libbyol runs it: no thread waits busily.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name, (_, height, width, channels) = session.get_inputs()[0].name, session.get_inputs()[0].shape
    dimension = session.get_outputs()[0].shape[1]
    random = numpy.random.default_rng(1)
    for batch in (1, 4, 16):
        pixels = random.integers(0, 256, (batch, height, width, channels), numpy.uint8)
        features = numpy.zeros((batch, dimension), numpy.float32)

        def ours():
            must(byol.byol_extract_tensor(
                encoder, pixels.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(pixels.size), ctypes.c_uint32(1),
                ctypes.c_size_t(batch), None, features.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(0),
                ctypes.c_size_t(features.size), handle(), ctypes.byref(error)))

        def theirs():
            return session.run(None, {name: pixels})[0]

        ours()
        apart = numpy.abs(features - theirs()).max() / numpy.abs(features).max()
        if not apart < 1e-5:
            raise SystemExit(f"features differ by {apart}")
        took = {ours: [], theirs: []}
        repeats = max(1, 32 // batch)
        for _ in range(rounds):
            for work in took:
                start = time.perf_counter()
                for _ in range(repeats):
                    work()
                took[work].append((time.perf_counter() - start) / repeats)
        a, b = min(took[ours]), min(took[theirs])
        ratios = sorted(o / t for o, t in zip(took[ours], took[theirs]))
        print(f"batch {batch}: byol_extract_tensor {1e3 * a:.2f} ms, session.run {1e3 * b:.2f} ms, ratio of the least "
              f"{a / b:.3f}, of each round {ratios[0]:.3f} to {ratios[-1]:.3f}, median {ratios[len(ratios) // 2]:.3f}")


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("library", type=pathlib.Path)
parser.add_argument("model", type=pathlib.Path, nargs="?")
parser.add_argument("--rounds", type=int, default=7)
arguments = parser.parse_args()
with tempfile.TemporaryDirectory() as place:
    folder, library = pathlib.Path(place), arguments.library.resolve()
    call(library, folder)
    model = arguments.model
    if not model:
        model = folder / "resnet18.onnx"
        subprocess.run([library.parent / "byol", "--quiet", "export", "--encoder", "resnet18", "--seed", "1", "--output", model],
                       check=True, stdout=subprocess.DEVNULL)
    # Beside the copy that libbyol is linked against by name there is no checkout: name the runtime.
    os.environ.setdefault("BYOL_ONNXRUNTIME", str(ROOT / ".native/onnxruntime/lib"))
    extraction(library, model, arguments.rounds)
