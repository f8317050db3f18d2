"""The head's fit beside scikit-learn's LogisticRegression: the same features, labels and penalty, in turn, in one run.

usage: python tests/bench/head_scikit.py FEATURES.npy LABELS.npy [MORE_FEATURES.npy MORE_LABELS.npy ...]
Ours runs to its certified relative gap of 1e-6; scikit-learn (lbfgs, tol 1e-4, at most 1,000 iterations) to its own stop.
Objectives are evaluated in float64 from both sides' weights. Times are CPU seconds of fitting alone, threads added up.
Needs numpy, scikit-learn, safetensors, and `make build`.
"""
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
from safetensors.numpy import load_file
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

ROOT = pathlib.Path(__file__).resolve().parents[2]
warnings.simplefilter("ignore", ConvergenceWarning)


def cpu(who):
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def objective(x, y, w, b, l2):
    loss = 0.0
    for rows in np.array_split(np.arange(len(x)), max(1, len(x) // 5000)):
        z = x[rows].astype(np.float64) @ w.T + b
        z -= z.max(1, keepdims=True)
        loss += (np.log(np.exp(z).sum(1)) - z[np.arange(len(rows)), y[rows]]).sum()
    return loss / len(x) + 0.5 * l2 * (w ** 2).sum()


print("data | rows x columns x classes | l2 * rows | ours: CPU s, wall s, passes, gap | scikit-learn: CPU s, wall s, iterations"
      " | its objective over ours, less 1 | CPU ratio")
for features, labels in zip(sys.argv[1::2], sys.argv[2::2]):
    x, y = np.load(features).astype(np.float32), np.load(labels).astype(np.int64)
    n, classes = len(x), int(y.max()) + 1
    for lam in (0.01, 1.0, 100.0):
        with tempfile.TemporaryDirectory() as folder:
            head = folder + "/head.safetensors"
            began = cpu(resource.RUSAGE_CHILDREN)
            out = subprocess.run([ROOT / "target/release/byol", "--json", "-q", "fit", "--features", features, "--labels",
                                  labels, "--l2", repr(lam / n), "--max-iterations", "5000", "-o", head],
                                 stdout=subprocess.PIPE, check=True).stdout
            ours = cpu(resource.RUSAGE_CHILDREN) - began  # reading and judging included
            fit = json.loads(out)["fit"]
            tensors = load_file(head)
        own = objective(x, y, tensors["weight"].astype(np.float64), tensors["bias"].astype(np.float64), lam / n)
        model = LogisticRegression(C=1 / lam, tol=1e-4, max_iter=1000)
        began, wall = cpu(resource.RUSAGE_SELF), time.perf_counter()
        model.fit(x, y)
        peer, wall = cpu(resource.RUSAGE_SELF) - began, time.perf_counter() - wall
        w, b = model.coef_.astype(np.float64), model.intercept_.astype(np.float64)
        theirs = objective(x, y, w, b, lam / n)
        print(f"{pathlib.Path(features).stem} | {n} x {x.shape[1]} x {classes} | {lam} | {ours:.2f}, {fit['seconds']:.2f}, "
              f"{fit.get('passes')}, {fit.get('gap', float('nan')):.0e} | {peer:.2f}, {wall:.2f}, {model.n_iter_[0]} | "
              f"{theirs / own - 1:.1e} | {peer / ours:.1f}", flush=True)
