"""`byol extract` beside ONNX Runtime itself and beside a Python pipeline, in turn, on the same JPEG photographs.

usage: extract_beside_python.py BYOL PHOTO_DIR ENCODER.onnx [ENCODER.onnx...] [--rounds 3] [--threads 2] [--peer PEER.py]

PHOTO_DIR holds *.jpg (the peer's photos.py writes some); the encoders are `byol export`'s (uint8 input). One round is:
  limit     onnxruntime's session.run on a tensor that is in memory, the file as it is (uint8) and its float32 twin,
            which is the same network cut before the first convolution: what the Python user's exporter writes
  byol      `byol extract`, JPEG files in, features out: from the first picture to the last, and the whole process
  python    PIL + DataLoader + session.run on the twin
Prints each round, the medians of the rounds' ratios, and the ratio of the best rounds: on a machine with neighbours
the best of many short rounds is what comes nearest to a quiet machine. Needs: onnx, onnxruntime, torch, torchvision, pillow, numpy.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torchvision.transforms as T
from PIL import Image

parser = argparse.ArgumentParser()
parser.add_argument("byol")
parser.add_argument("photos", type=pathlib.Path)
parser.add_argument("encoders", nargs="+", type=pathlib.Path)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--batch", type=int, default=16)
parser.add_argument("--flags", default="", help="more flags for byol extract")
parser.add_argument("--no-python", action="store_true", help="leave the Python pipeline out")
arguments = parser.parse_args()
files = sorted(arguments.photos.glob("*.jpg"))


def twin(path, out):
    """The same network with float32 [n, 3, h, w] input."""
    model = onnx.load(path)
    graph, shape = model.graph, model.graph.input[0].type.tensor_type.shape.dim
    height, width, channels = (shape[i].dim_value for i in (1, 2, 3))
    value, kept = graph.input[0].name, list(graph.node)
    for expected in ("Transpose", "Cast", "Mul", "Add"):
        assert kept[0].op_type == expected, kept[0].op_type
        value = kept.pop(0).output[0]
    del graph.node[:], graph.input[:]
    graph.node.extend(kept)
    graph.input.append(onnx.helper.make_tensor_value_info(value, 1, ["n", channels, height, width]))
    onnx.checker.check_model(model)
    onnx.save(model, out)


def session(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def limit(session, x):
    name = session.get_inputs()[0].name
    session.run(None, {name: x})
    runs = max(2, len(files) // len(x))
    start = time.perf_counter()
    for _ in range(runs):
        session.run(None, {name: x})
    return runs * len(x) / (time.perf_counter() - start)


class Photos(torch.utils.data.Dataset):
    transform = T.Compose([
        T.Resize(256, interpolation=T.InterpolationMode.BICUBIC), T.CenterCrop(224), T.ToTensor(),
        T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])

    def __len__(self):
        return len(files)

    def __getitem__(self, i):
        return self.transform(Image.open(files[i]).convert("RGB"))


def python(session):
    name = session.get_inputs()[0].name
    loader = torch.utils.data.DataLoader(Photos(), batch_size=arguments.batch, num_workers=arguments.threads)
    start = time.perf_counter()
    done = sum(len(session.run(None, {name: x.numpy()})[0]) for x in loader)
    return done / (time.perf_counter() - start)


def byol(encoder, folder):
    command = [arguments.byol, "--json", "--quiet", "extract", encoder, "--data", arguments.photos,
               "--threads", str(arguments.threads), "-o", folder / "features.npy", *arguments.flags.split()]
    start = time.perf_counter()
    result = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    whole = time.perf_counter() - start
    assert result["pictures"] == len(files), result
    return len(files) / result["seconds"], len(files) / whole


rng = np.random.default_rng(0)
for encoder in arguments.encoders:
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        twin(encoder, folder / "twin.onnx")
        bytes_, floats = session(encoder), session(folder / "twin.onnx")
        size = [d for d in bytes_.get_inputs()[0].shape[1:]]
        pixels = rng.integers(0, 256, (arguments.batch, *size), dtype=np.uint8)
        planes = rng.standard_normal((arguments.batch, size[2], *size[:2]), dtype=np.float32)
        rows = []
        for _ in range(arguments.rounds):
            row = {"limit uint8": limit(bytes_, pixels), "limit float32": limit(floats, planes)}
            row["byol"], row["byol, whole process"] = byol(encoder, folder)
            if not arguments.no_python:
                row["python"] = python(floats)
            row["limit float32 again"] = limit(floats, planes)
            rows.append(row)
            print(encoder.name, "  ".join(f"{k} {v:.1f}" for k, v in row.items()), "img/s", flush=True)
        best = [max(r["limit float32"], r["limit float32 again"]) for r in rows]
        top = lambda key: max(r[key] for r in rows)
        print(f"{encoder.name}: best of {len(rows)}: " + "  ".join(f"{k} {top(k):.1f}" for k in rows[0]) + " img/s,"
              f" byol / limit {top('byol') / max(best):.3f}, to the uint8 file's {top('byol') / top('limit uint8'):.3f}"
              + (f", byol / python {top('byol') / top('python'):.3f}" if "python" in rows[0] else ""))
        mean = [(r["limit float32"] + r["limit float32 again"]) / 2 for r in rows]
        median = lambda values: statistics.median(list(values))
        print(f"{encoder.name}: byol / limit {median(r['byol'] / b for r, b in zip(rows, mean)):.3f}"
              f" (to the better of the two limits {median(r['byol'] / b for r, b in zip(rows, best)):.3f},"
              f" to the uint8 file's {median(r['byol'] / r['limit uint8'] for r in rows):.3f})", end="")
        if not arguments.no_python:
            print(f", byol / python {median(r['byol'] / r['python'] for r in rows):.3f}"
                  f", python / limit {median(r['python'] / b for r, b in zip(rows, mean)):.3f}", end="")
        print(flush=True)
