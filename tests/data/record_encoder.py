#!/usr/bin/env python3
"""Record tests/data/encoder: small ONNX files, good and bad, and what stock onnxruntime makes of the good ones.

usage: record_encoder.py        (needs numpy, onnx and onnxruntime 1.32)

Every good file passes the official checker with full shape inference. Running it again gives the same files.
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).parent / "encoder"
SIZE, CHANNELS, DIMENSION, COUNT = 12, 3, 16, 10
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CONTRACT = {
    "byol.format": "1",
    "byol.input.channels": "3",
    "byol.input.height": str(SIZE),
    "byol.input.width": str(SIZE),
    "byol.input.resize": "stretch",
    "byol.input.filter": "bicubic",
    "byol.input.mean": " ".join(map(str, MEAN)),
    "byol.input.std": " ".join(map(str, STD)),
}

random = np.random.default_rng(20261123)


def constant(name, values):
    return numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name)


def weights(name, *shape):
    return constant(name, random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape))


def save(name, nodes, constants, inputs, outputs, metadata=None, check=True):
    graph = helper.make_graph(nodes, name, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="record_encoder")
    model.ir_version = 8
    helper.set_model_props(model, metadata or {})
    if check:
        onnx.checker.check_model(model, full_check=True)
    (FOLDER / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))


def value(name, kind, *shape):
    return helper.make_tensor_value_info(name, kind, shape)


def features(source, output="features"):
    """Two convolutions and a pool, from `source` to `output`."""
    nodes = [
        helper.make_node("Conv", [source, "w1", "b1"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], [output], axis=1),
    ]
    return nodes


CONSTANTS = [weights("w1", 8, 3, 3, 3), weights("b1", 8), weights("w2", DIMENSION, 8, 3, 3), weights("b2", DIMENSION)]


def to_float(source, output):
    """uint8 [n, h, w, c] to float32 [n, c, h, w], not normalised."""
    return [
        helper.make_node("Cast", [source], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast"], [output], perm=[0, 3, 1, 2]),
    ]


def good():
    scale = 1 / (255 * np.array(STD))
    shift = -np.array(MEAN) / np.array(STD)
    normalise = [
        helper.make_node("Mul", ["planes", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["normal"]),
    ]
    constants = CONSTANTS + [constant("scale", scale.reshape(1, 3, 1, 1)), constant("shift", shift.reshape(1, 3, 1, 1))]
    picture = value("image", TensorProto.UINT8, "n", SIZE, SIZE, CHANNELS)
    row = value("features", TensorProto.FLOAT, "n", DIMENSION)
    nodes = to_float("image", "planes") + normalise + features("normal")
    save("uint8", nodes, constants, [picture], [row], CONTRACT)

    # As other exporters write it: no metadata, other names, an output before the wanted one that is not float32.
    planes = value("x", TensorProto.FLOAT, "batch", CHANNELS, SIZE, SIZE)
    shape = helper.make_node("Shape", ["x"], ["shape"])
    foreign = [value("shape", TensorProto.INT64, 4), value("embedding", TensorProto.FLOAT, "batch", DIMENSION)]
    save("float32", [shape, *features("x", "embedding")], CONSTANTS, [planes], foreign)

    # Only batches of four, and the number of features is not written.
    four = value("x", TensorProto.FLOAT, 4, CHANNELS, SIZE, SIZE)
    free = value("embedding", TensorProto.FLOAT, 4, "d")
    save("batch4", features("x", "embedding"), CONSTANTS, [four], [free])

    # 0 / 0 for a picture that is black everywhere.
    divide = [
        helper.make_node("GlobalAveragePool", ["planes"], ["mean"]),
        helper.make_node("Div", ["mean", "mean"], ["ones"]),
        helper.make_node("Flatten", ["ones"], ["features"], axis=1),
    ]
    three = value("features", TensorProto.FLOAT, "n", 3)
    save("nan_for_black", to_float("image", "planes") + divide, [], [picture], [three], CONTRACT)

    # Seconds of work in a small file: one weight, spread out when the file is loaded, used 400 times.
    wide = [numpy_helper.from_array(np.array(shape, np.int64), name) for name, shape in
            [("first_shape", [64, 3, 3, 3]), ("shape", [64, 64, 3, 3])]]
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    chain = [
        helper.make_node("Expand", ["tiny", "first_shape"], ["first"]),
        helper.make_node("Expand", ["tiny", "shape"], ["weight"]),
        helper.make_node("Conv", ["planes", "first"], ["v0"], **same),
    ]
    chain += [helper.make_node("Conv", [f"v{i}", "weight"], [f"v{i + 1}"], **same) for i in range(400)]
    chain += [
        helper.make_node("GlobalAveragePool", ["v400"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"], axis=1),
    ]
    large = value("image", TensorProto.UINT8, "n", 96, 96, CHANNELS)
    save("slow", to_float("image", "planes") + chain, [constant("tiny", [0.001]), *wide], [large],
         [value("features", TensorProto.FLOAT, "n", 64)],
         CONTRACT | {"byol.input.height": "96", "byol.input.width": "96"})


def bad():
    row = value("features", TensorProto.FLOAT, "n", DIMENSION)
    plain = [value("x", TensorProto.FLOAT, "n", 3, SIZE, SIZE)]

    integers = value("x", TensorProto.INT64, "n", 3, SIZE, SIZE)
    cast = helper.make_node("Cast", ["x"], ["planes"], to=TensorProto.FLOAT)
    save("bad_input_type", [cast, *features("planes")], CONSTANTS, [integers], [row])

    vector = value("x", TensorProto.FLOAT, "n", 3 * SIZE * SIZE)
    shape = numpy_helper.from_array(np.array([-1, 3, SIZE, SIZE], np.int64), "shape")
    reshape = helper.make_node("Reshape", ["x", "shape"], ["planes"])
    save("bad_rank", [reshape, *features("planes")], [*CONSTANTS, shape], [vector], [row])

    second = value("y", TensorProto.FLOAT, "n", DIMENSION)
    add = helper.make_node("Add", ["inner", "y"], ["features"])
    save("bad_two_inputs", [*features("x", "inner"), add], CONSTANTS, [*plain, second], [row])

    argmax = helper.make_node("ArgMax", ["inner"], ["best"], axis=1)
    save("bad_output_type", [*features("x", "inner"), argmax], CONSTANTS, plain, [value("best", TensorProto.INT64, "n", 1)])

    unknown = helper.make_node("NoSuchOperator", ["x"], ["features"])
    save("bad_operator", [unknown], [], plain, [row], check=False)

    outside = [onnx.TensorProto.FromString(c.SerializeToString()) for c in CONSTANTS]
    outside[0].ClearField("raw_data")
    outside[0].data_location = TensorProto.EXTERNAL
    entry = outside[0].external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    save("bad_external", features("x"), outside, plain, [row], check=False)

    save("bad_contract", features("x"), CONSTANTS, plain, [row], CONTRACT | {"byol.input.std": "0.2 0 0.2"})
    save("bad_contract_size", features("x"), CONSTANTS, plain, [row], CONTRACT | {"byol.input.width": "13"})


def record():
    pixels = random.integers(0, 256, (COUNT, SIZE, SIZE, CHANNELS), np.uint8)
    (FOLDER / "pixels.bin").write_bytes(pixels.tobytes())
    normal = (pixels / 255.0 - MEAN) / STD
    planes = np.ascontiguousarray(normal.transpose(0, 3, 1, 2), np.float32)

    def run(name, output, feed):
        session = onnxruntime.InferenceSession(FOLDER / f"{name}.onnx", providers=["CPUExecutionProvider"])
        return session.run([output], feed)[0]

    np.save(FOLDER / "uint8.npy", run("uint8", "features", {"image": pixels}))
    np.save(FOLDER / "float32.npy", run("float32", "embedding", {"x": planes}))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    good()
    bad()
    record()
