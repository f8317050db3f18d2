"""Compares heads with scikit-learn's on the pixels of Fashion-MNIST's committed sample.

usage: head_agrees.py BYOL IMAGES LABELS

Ridge: the same penalty chosen by leave-one-out, the same error at each, the same weights. Import: the same
probabilities, for ten classes and for two. Exits with 1 where they differ.
"""

import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV

failed = False


def check(what, difference, most):
    global failed
    ok = difference <= most
    failed |= not ok
    print(f"{'ok  ' if ok else 'FAIL'} {what}: {difference:.1e} (at most {most:.0e})")


def main(byol, images, labels):
    read = lambda path: (gzip.open if path.endswith(".gz") else open)(path, "rb").read()
    x = np.frombuffer(read(images), np.uint8, offset=16).reshape(-1, 28, 28)[:600, ::2, ::2].reshape(-1, 196)
    y = np.frombuffer(read(labels), np.uint8, offset=8)[:600].astype(np.int64)
    x = (x / 255.0).astype(np.float32)
    folder = Path(tempfile.mkdtemp())
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    features = ["--features", str(folder / "x.npy")]
    wide = x.astype(np.float64)

    def run(*arguments):
        return json.loads(subprocess.check_output([byol, "--json", "--quiet", *map(str, arguments)]))

    alphas = [10.0**power for power in range(-4, 7)]
    theirs = RidgeClassifierCV(alphas=alphas, store_cv_results=True).fit(wide, y)
    ours = run("fit", "--ridge", *features, "--labels", folder / "y.npy", "-o", folder / "ridge.safetensors")
    errors = theirs.cv_results_.reshape(-1, len(alphas)).mean(0)
    chosen = ours["points"][ours["best"]]["alpha"]
    check(f"ridge: chosen penalty, {chosen:g} and {theirs.alpha_:g}", abs(np.log10(chosen / theirs.alpha_)), 1e-9)
    mine = np.array([point["squared_error"] for point in ours["points"]])
    check("ridge: leave-one-out error of every penalty, relative", np.abs(mine / errors - 1).max(), 1e-6)
    head = load_file(folder / "ridge.safetensors")
    check("ridge: weights", np.abs(head["weight"] - theirs.coef_).max(), 1e-5)
    check("ridge: bias", np.abs(head["bias"] - theirs.intercept_).max(), 1e-5)

    for classes in (10, 2):
        of = y < classes
        theirs = LogisticRegression(C=1, max_iter=5000).fit(wide[of], y[of])
        parts = {"coef_": np.ascontiguousarray(theirs.coef_), "intercept_": np.ascontiguousarray(theirs.intercept_)}
        save_file(parts, folder / "sklearn.safetensors")
        run("fit", "--import", folder / "sklearn.safetensors", "-o", folder / "head.safetensors")
        found = run("predict", folder / "head.safetensors", *features, "--top", classes)["predictions"]
        mine = np.zeros((len(x), classes))
        for row, prediction in enumerate(found):
            for answer in prediction["top"]:
                mine[row, int(answer["label"])] = answer["probability"]
        check(f"import: probabilities of {classes} classes", np.abs(mine - theirs.predict_proba(wide)).max(), 1e-5)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
