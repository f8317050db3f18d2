"""An encoder of one's own, from the command line: pretrained, interrupted files and all, judged by stock onnxruntime.

usage: python tests/own_encoder.py FOLDER        (tests/own_encoder.sh makes FOLDER and the environment)
FOLDER holds what tests/data/record_own_encoder.py and tests/own_encoder.rs wrote: NAME.onnx, NAME.byol (after twenty
steps, written again) and NAME.learned (pictures, and libtorch's features of them).
"""
import json
import pathlib
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file

ROOT = pathlib.Path(__file__).resolve().parents[1]
onnxruntime.set_default_logger_severity(3)


def byol(*arguments, fails=False):
    done = subprocess.run([ROOT / "target/release/byol", "-q", "--json", *map(str, arguments)], capture_output=True, text=True)
    if (done.returncode != 0) != fails:
        sys.exit(f"byol {' '.join(map(str, arguments))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stderr if fails else json.loads(done.stdout)


def features(path, pixels, optimise=True):
    options = onnxruntime.SessionOptions()
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": pixels})[0]


def difference(found, expected):
    assert found.shape == expected.shape and np.isfinite(found).all() and expected.std() > 0
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def check(path):
    """The file that was written after learning is valid ONNX, and stock onnxruntime computes what libtorch computed."""
    served = path.with_suffix(".byol")
    onnx.checker.check_model(onnx.load(str(served)), full_check=True)
    golden = load_file(path.with_suffix(".learned"))
    pixels = golden["pixels"].astype(np.uint8)
    off = difference(features(served, pixels), golden["features"])
    alone = difference(np.concatenate([features(served, p[None]) for p in pixels]), golden["features"])
    # Twenty steps can leave a network so sensitive that onnxruntime, with and without its optimiser, disagrees with itself
    # by as much (EfficientNet-B0: 1e-4, and 1e-4 and 2e-4 to the same file in float64).
    rounding = difference(features(served, pixels, optimise=False), features(served, pixels))
    allowed = min(max(1e-4, 8 * rounding), 1e-2)
    result = f"{off:.1e}, one by one {alone:.1e}, onnxruntime to itself {rounding:.1e}  {path.stem}"
    assert max(off, alone) < allowed, result
    print(f"ok  {result}", flush=True)


def run(folder, path):
    """A run of twenty steps on real pictures: its loss falls, resuming and exporting need nothing but the run's folder."""
    out = folder / "run"
    arguments = ["pretrain", "--data", ROOT / "examples/data/fashion-mnist", "--encoder", path, "--views", "small-image",
                 "--images", 256, "--batch-size", 64, "--optimizer", "sgd", "--learning-rate", 0.2, "--device", "cpu",
                 "--evaluation-epochs", 0]
    byol(*arguments, "--steps", 20, "--force", "--out", out)
    losses = [json.loads(line).get("loss") for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [loss for loss in losses if loss is not None]
    assert len(losses) == 20 and np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1, losses
    byol("export", out, "-o", folder / "again.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    off = difference(features(folder / "again.onnx", pixels), features(out / "encoder.onnx", pixels))
    assert off == 0, off
    byol("export", out, "--untrained", "-o", folder / "untrained.onnx")
    byol("export", "--encoder", path, "-o", folder / "direct.onnx")
    assert difference(features(folder / "untrained.onnx", pixels), features(folder / "direct.onnx", pixels)) == 0
    assert difference(features(folder / "untrained.onnx", pixels), features(folder / "again.onnx", pixels)) > 1e-3
    print(f"ok  run  {path.stem}: loss {losses[0]:.3f} to {losses[-1]:.3f}", flush=True)


def refused(folder, path):
    """An operator that is not known is named with its node."""
    model = onnx.load(str(path))
    node = next(n for n in model.graph.node if n.op_type == "Relu")
    node.op_type = "Celu"
    onnx.save(model, str(folder / "celu.onnx.tmp"))
    (folder / "celu.onnx.tmp").rename(folder / "refused.onnx")
    message = byol("summary", "--encoder", folder / "refused.onnx", fails=True)
    (folder / "refused.onnx").unlink()
    assert node.name in message and "Celu" in message and "refused.onnx" in message, message
    print("ok  an unsupported operator is named")


def main():
    folder = pathlib.Path(sys.argv[1])
    models = sorted(p for p in folder.glob("*.onnx") if p.with_suffix(".learned").exists())
    assert len(models) >= 8, models
    for path in models:
        check(path)
    run(folder, folder / "mobilenetv3_small_050.onnx")
    refused(folder, folder / "resnet10t.onnx")


if __name__ == "__main__":
    main()
