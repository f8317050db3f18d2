"""Sparse heads beside scikit-learn's saga: the same features, labels and penalty, in turn, in one run.

usage: python tests/bench/head_sparse.py BYOL ROWS L1[,L1...] FEATURES.npy LABELS.npy [MORE_FEATURES.npy MORE_LABELS.npy ...]
The first ROWS rows, every column brought to mean 0 and deviation 1, which saga needs. Ours runs to its certified relative
gap of 1e-6; saga (tol 1e-4, at most 200 epochs) to its own stop. Objectives are evaluated in float64 from both sides'
weights. Times are CPU seconds, threads added up; ours with reading the file and judging the head, saga's of fitting alone.
"""
import json
import resource
import subprocess
import sys
import tempfile
import warnings

import numpy as np
from safetensors.numpy import load_file
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

warnings.simplefilter("ignore", ConvergenceWarning)
warnings.simplefilter("ignore", FutureWarning)


def cpu(who):
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def objective(x, y, w, b, l1):
    loss = 0.0
    for rows in np.array_split(np.arange(len(x)), max(1, len(x) // 5000)):
        z = x[rows].astype(np.float64) @ w.T + b
        z -= z.max(1, keepdims=True)
        loss += (np.log(np.exp(z).sum(1)) - z[np.arange(len(rows)), y[rows]]).sum()
    return loss / len(x) + l1 * abs(w).sum()


byol, rows, penalties = sys.argv[1], int(sys.argv[2]), [float(l1) for l1 in sys.argv[3].split(",")]
print("data | rows x columns x classes | l1 | ours: CPU s, passes, gap, weights not 0 | saga: CPU s, epochs, weights not 0"
      " | its objective over ours, less 1 | CPU ratio")
for features, labels in zip(sys.argv[4::2], sys.argv[5::2]):
    x, y = np.load(features, mmap_mode="r")[:rows].astype(np.float32), np.load(labels)[:rows].astype(np.int64)
    x -= x.mean(0)
    x /= np.maximum(x.std(0), 1e-12)
    n, classes = len(x), int(y.max()) + 1
    with tempfile.TemporaryDirectory() as folder:
        np.save(folder + "/x.npy", x)
        np.save(folder + "/y.npy", y)
        for l1 in penalties:
            began = cpu(resource.RUSAGE_CHILDREN)
            out = subprocess.run([byol, "--json", "-q", "fit", "--features", folder + "/x.npy", "--labels", folder + "/y.npy",
                                  "--l1", repr(l1), "-o", folder + "/head.safetensors"], stdout=subprocess.PIPE, check=True).stdout
            ours = cpu(resource.RUSAGE_CHILDREN) - began
            fit = json.loads(out)["fit"]
            tensors = load_file(folder + "/head.safetensors")
            own = objective(x, y, tensors["weight"].astype(np.float64), tensors["bias"].astype(np.float64), l1)
            print(f"{features.split('/')[-1]} | {n} x {x.shape[1]} x {classes} | {l1:g} | {ours:.2f} (fit {fit['seconds']:.2f} s wall), {fit['passes']}, "
                  f"{fit['gap']:.0e}, {fit['nonzero']}", end=" | ", flush=True)
            began = cpu(resource.RUSAGE_SELF)
            model = LogisticRegression(C=1 / (l1 * n), l1_ratio=1, solver="saga", tol=1e-4, max_iter=200, random_state=0)
            model.fit(x, y)
            peer = cpu(resource.RUSAGE_SELF) - began
            w, b = model.coef_.astype(np.float64), model.intercept_.astype(np.float64)
            print(f"{peer:.2f}, {model.n_iter_[0]}, {(w != 0).sum()} | {objective(x, y, w, b, l1) / own - 1:.1e} | {peer / ours:.1f}",
                  flush=True)
