"""Exact cosine k-NN beside scikit-learn's brute force: the same rows and queries, in turn, in one run, one thread each.

usage: python tests/bench/head_knn.py BYOL FEATURES.npy LABELS.npy [QUERIES]      (OPENBLAS_NUM_THREADS=1)
The last QUERIES rows ask, the others answer; k 20, majority. CPU seconds; ours with start and reading of both files (and
what reading alone takes, from a run with one query), scikit-learn's of kneighbors and the vote alone.
"""
import json
import resource
import subprocess
import sys
import tempfile

import numpy as np
from sklearn.neighbors import KNeighborsClassifier


def cpu(who):
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


byol, x, y = sys.argv[1], np.load(sys.argv[2]).astype(np.float32), np.load(sys.argv[3]).astype(np.uint32)
queries = int(sys.argv[4]) if len(sys.argv) > 4 else 4000
n = len(x) - queries
with tempfile.TemporaryDirectory() as folder:
    for name, part in (("x", x[:n]), ("y", y[:n]), ("z", x[n:]), ("w", y[n:]), ("one", x[-1:]), ("label", y[-1:])):
        np.save(f"{folder}/{name}.npy", part)

    def ours(test, labels):
        began = cpu(resource.RUSAGE_CHILDREN)
        out = subprocess.run([byol, "--json", "-q", "knn", "--features", folder + "/x.npy", "--labels", folder + "/y.npy",
                              "--test-features", f"{folder}/{test}.npy", "--test-labels", f"{folder}/{labels}.npy", "--threads", "1"],
                             stdout=subprocess.PIPE, check=True, env={"RAYON_NUM_THREADS": "1"}).stdout
        return cpu(resource.RUSAGE_CHILDREN) - began, json.loads(out)["top1"]

    alone, _ = ours("one", "label")
    whole, top1 = ours("z", "w")
model = KNeighborsClassifier(20, metric="cosine", algorithm="brute").fit(x[:n], y[:n])
began = cpu(resource.RUSAGE_SELF)
theirs = (model.predict(x[n:]) == y[n:]).mean()
peer = cpu(resource.RUSAGE_SELF) - began
product = 2e-9 * n * queries * x.shape[1]
print(f"{queries} queries, {n} rows, {x.shape[1]} columns: ours {whole:.2f} CPU s, {whole - alone:.2f} without reading "
      f"({product / (whole - alone):.0f} GFLOP/s), scikit-learn {peer:.2f}; top-1 {top1:.4f} and {theirs:.4f}")
