"""byol beside lightly: the same pictures, encoder, epochs and evaluation, several seeds, in turn.

usage: beside_lightly.py PEER.py FASHION_MNIST_DIR [EPOCHS=4] [SEEDS=0,1,2] [WHICH=peer,ours]
PEER.py is the script that composes lightly's BYOL as its documentation does. Both learn from the first 10,000 training
pictures; both are judged by scikit-learn on the 10,000 test pictures: 20-NN (cosine) and logistic regression
(standardised features, C = 0.1). Needs what PEER.py needs, and `make build`.
"""
import gzip
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
peer, data = sys.argv[1:3]
epochs = sys.argv[3] if len(sys.argv) > 3 else "4"
seeds = [int(s) for s in (sys.argv[4] if len(sys.argv) > 4 else "0,1,2").split(",")]
which = (sys.argv[5] if len(sys.argv) > 5 else "peer,ours").split(",")
byol = ROOT / "target/release/byol"


def run_peer(seed):
    arguments = ["--data", data, "--images", "10000", "--batch", "256", "--width", "16", "--eval", "--epochs", epochs]
    # The peer fixes its seed; everything else of it is run as it is.
    code = (f"import runpy, sys, torch; m = torch.manual_seed; torch.manual_seed = lambda _: m({seed}); "
            f"sys.argv = {[peer, *arguments]!r}; runpy.run_path({peer!r}, run_name='__main__')")
    out = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout
    print(out, flush=True)
    last = [line.split() for line in out.splitlines() if line.startswith("pretrained:")][0]
    return float(last[2]), float(last[4]), float(last[6])


def labels(name):
    return np.frombuffer(gzip.open(pathlib.Path(data) / name).read(), np.uint8, offset=8)


def run_ours(seed):
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    import time
    with tempfile.TemporaryDirectory() as folder:
        call = lambda *a: json.loads(subprocess.run([byol, "--json", "-q", *a], stdout=subprocess.PIPE, check=True).stdout)
        start = time.perf_counter()
        call("pretrain", "--config", ROOT / "tests/bench/beside_lightly.toml", "--data", data, "--epochs", epochs,
             "--seed", str(seed), "--out", folder + "/run")
        seconds = time.perf_counter() - start
        for split in ("train", "test"):
            call("extract", folder + "/run/encoder.onnx", "--data", data, "--split", split, "-o", f"{folder}/{split}.npy")
        f, g = np.load(folder + "/train.npy")[:10000], np.load(folder + "/test.npy")
    y, ty = labels("train-labels-idx1-ubyte.gz")[:10000], labels("t10k-labels-idx1-ubyte.gz")
    knn = KNeighborsClassifier(20, metric="cosine").fit(f, y).score(g, ty)
    mu, sd = f.mean(0), f.std(0) + 1e-6
    linear = LogisticRegression(max_iter=2000, C=0.1).fit((f - mu) / sd, y).score((g - mu) / sd, ty)
    return knn, linear, seconds


for name, run in (("peer", run_peer), ("ours", run_ours)):
    if name not in which:
        continue
    rows = []
    for seed in seeds:
        rows.append(run(seed))
        print(f"{name} seed {seed}: 20-NN {rows[-1][0]:.4f} linear {rows[-1][1]:.4f} {rows[-1][2]:.0f} s", flush=True)
    print(name, "mean: 20-NN {:.4f} linear {:.4f} {:.0f} s".format(*map(statistics.mean, zip(*rows))), flush=True)
