"""The official ONNX checker and the stock runtime accept what `byol export` writes, for every builder.

usage: python tests/onnx_agrees.py        (tests/onnx_agrees.sh makes the environment; `make build` comes first)
Each file passes onnx.checker with full shape inference, names itself in `byol.*` metadata, runs in stock onnxruntime at
several batch sizes, and gives there the features that `byol extract` gives, on real pictures.
"""
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "examples/data/fashion-mnist"
COUNT, SIZE = 24, 28
onnxruntime.set_default_logger_severity(3)


def byol(*arguments):
    done = subprocess.run([ROOT / "target/release/byol", "-q", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"byol {' '.join(map(str, arguments))}\n{done.stderr}")


def accepted(path):
    """The checked model's session, input channels, side and dimension."""
    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    known = {v.name for v in [*inferred.graph.value_info, *inferred.graph.output] if v.type.tensor_type.HasField("shape")}
    unknown = [name for node in inferred.graph.node for name in node.output if name not in known]
    assert not unknown, f"no shape for {unknown}"
    assert not [n.op_type for n in model.graph.node if n.op_type == "BatchNormalization"], "a BatchNorm is left unfolded"
    assert [p.key for p in model.metadata_props if p.key.startswith("byol.")], "no byol.* metadata"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    dimension = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    return session, shape[3], shape[1], dimension


def run(session, pixels):
    return session.run(None, {session.get_inputs()[0].name: pixels})[0]


def check(folder, pictures, *flags):
    path, features = folder / "encoder.onnx", folder / "features.npy"
    byol("export", *flags, "-o", path)
    session, channels, side, dimension = accepted(path)
    if side != SIZE:
        pixels = np.random.default_rng(0).integers(0, 256, (3, side, side, channels), dtype=np.uint8)
        together, alone = run(session, pixels), np.concatenate([run(session, p[None]) for p in pixels])
        assert together.shape == (3, dimension) and np.isfinite(together).all() and together.std() > 0
        difference = np.linalg.norm(together - alone) / np.linalg.norm(together)
    else:
        byol("extract", path, "--data", folder / "data", "--split", "test", "-o", features)
        stock, ours = run(session, np.repeat(pictures[..., None], channels, 3)), np.load(features)
        assert stock.shape == ours.shape == (COUNT, dimension) and stock.std() > 0
        difference = np.linalg.norm(stock - ours) / np.linalg.norm(stock)
    assert difference < 1e-5, f"{flags}: relative difference {difference:.1e}"
    print(f"ok  {difference:.0e}  {' '.join(map(str, flags))}", flush=True)


def check_head(folder, pictures, form, *quantize):
    """A head alone and behind its encoder, of floats or as `byol quantize` makes it: the probabilities of `byol predict`."""
    encoder, head, features = folder / "encoder.onnx", folder / "head.safetensors", folder / "features.npy"
    byol("export", "--encoder", "resnet18", "--width", 16, "--channels", 1, "--image-size", SIZE, "-o", encoder)
    if quantize:
        byol("quantize", encoder, *quantize, "-o", folder / "quantized.onnx")
        encoder = folder / "quantized.onnx"
        elements = {t.data_type for t in onnx.load(str(encoder)).graph.initializer}
        wanted = {"int8": onnx.TensorProto.INT8, "float16": onnx.TensorProto.FLOAT16}[form]
        assert wanted in elements, f"{form}: only {elements}"
    byol("fit", "--encoder", encoder, "--data", SAMPLE, "--calibrate", "-o", head)
    byol("extract", encoder, "--data", folder / "data", "--split", "test", "-o", features)
    out = subprocess.run([ROOT / "target/release/byol", "--json", "-q", "predict", head, "--features", features, "--top", "10"],
                         capture_output=True, text=True, check=True).stdout
    rows = [{p["label"]: p["probability"] for p in row["top"]} for row in json.loads(out)["predictions"]]
    byol("export", "--head", head, "-o", folder / "head.onnx")
    byol("export", encoder, "--head", head, "-o", folder / "classifier.onnx")
    inputs = {"head": np.load(features), "classifier": pictures[..., None]}
    for name, value in inputs.items():
        model = onnx.load(str(folder / f"{name}.onnx"))
        onnx.checker.check_model(model, full_check=True)
        labels = json.loads({p.key: p.value for p in model.metadata_props}["byol.labels"])
        session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        logits, probabilities = session.run(["logits", "probabilities"], {session.get_inputs()[0].name: value})
        ours = np.array([[row[label] for label in labels] for row in rows])
        difference = np.abs(ours - probabilities).max()
        assert difference < 1e-5 and (logits.argmax(1) == ours.argmax(1)).all(), f"{name}: {difference:.1e}"
        print(f"ok  {difference:.0e}  {name}.onnx, encoder in {form}", flush=True)
    again = subprocess.run([ROOT / "target/release/byol", "export", folder / "classifier.onnx", "--head", head],
                           capture_output=True, text=True)
    assert again.returncode == 1 and "of encoder" in again.stderr and "not of" in again.stderr, again.stderr


def main():
    raw = gzip.decompress((SAMPLE / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    pictures = np.frombuffer(raw, np.uint8).reshape(-1, SIZE, SIZE)[:COUNT]
    labels = gzip.decompress((SAMPLE / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:8 + COUNT]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "data").mkdir()
        big = lambda *numbers: b"".join(n.to_bytes(4, "big") for n in numbers)
        (folder / "data/t10k-images-idx3-ubyte").write_bytes(big(0x803, COUNT, SIZE, SIZE) + pictures.tobytes())
        (folder / "data/t10k-labels-idx1-ubyte").write_bytes(big(0x801, COUNT) + labels)
        for name in ("resnet18", "resnet34", "resnet50"):
            for stem in ("standard", "small", "small-stride2"):
                for channels in (1, 3):
                    check(folder, pictures, "--encoder", name, "--stem", stem, "--width", 16, "--channels", channels,
                          "--image-size", SIZE)
            check(folder, pictures, "--encoder", name, "--image-size", 224)
        small = ["--encoder", "resnet18", "--width", 16, "--channels", 1, "--image-size", SIZE]
        for pool in ("max", "grid2", "grid4"):
            check(folder, pictures, *small, "--pool", pool)
        check(folder, pictures, *small, "--read", "2,3", "--pool", "grid2")
        check(folder, pictures, *small, "--blocks", "1,1", "--stem", "small-stride2", "--pool", "grid4")
        check_head(folder, pictures, "float32")
        check_head(folder, pictures, "int8", "--calibrate", SAMPLE)
        check_head(folder, pictures, "float16", "--float16")
        check(folder, pictures, "--encoder", "resnet18", "--channels", 5, "--image-size", 33, "--width", 8)


if __name__ == "__main__":
    main()
