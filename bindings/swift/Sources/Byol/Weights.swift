// Heads out of weights, and new heads out of heads.
import CByol
import Foundation

extension Head {
    /// A head of weights, a row for each class, and a bias of one number for each class, or nil for none: such as
    /// scikit-learn's `coef_` and `intercept_` or a PyTorch `Linear`. `encoder` is the one whose features it takes, so that
    /// it will refuse others.
    public convenience init(
        weights: Matrix, bias: [Float]? = nil, classNames: [String]? = nil, encoder: ImageEncoder? = nil
    ) throws(ByolError) {
        try checkCompatible()
        if let bias, bias.count != weights.rows {
            throw ByolError(.shape, "\(bias.count) numbers of bias for \(weights.rows) rows of weights")
        }
        if let classNames, classNames.count != weights.rows {
            throw ByolError(.shape, "\(classNames.count) names for \(weights.rows) rows of weights")
        }
        for (label, name) in (classNames ?? []).enumerated() {
            try checkNoNUL(name, "the name of class \(label)", item: label)
        }
        let classes = try unsigned(weights.rows, "the number of classes")
        var head = byol_head()
        try attempt { error in
            withTexts(classNames ?? []) { names in
                withArray(bias) { bias in
                    lend(encoder) {
                        byol_head_create(
                            weights.values, classes, weights.columns, weights.stride, bias, names, $0, &head, error)
                    }
                }
            }
        }
        try self.init(head)
    }

    /// Copies the head's weights, a row for each class, and its bias.
    public func weights() throws(ByolError) -> (weights: Matrix, bias: [Float]) {
        let dimension = try info().dimension
        var weights = [Float](repeating: 0, count: try product(classes, dimension))
        var bias = [Float](repeating: 0, count: classes)
        try attempt { error in use { byol_head_get_weights($0, &weights, weights.count, &bias, bias.count, error) } }
        return (Matrix(weights, classes, dimension, dimension), bias)
    }

    /// Gives the head a second owner, which is closed by itself.
    public func clone() throws(ByolError) -> Head {
        var twin = byol_head()
        try attempt { error in use { byol_head_clone($0, &twin, error) } }
        return try Head(twin)
    }

    /// A head whose probabilities are as often right as they say, by labelled features that this one was not fitted to: its
    /// scores are divided by the temperature of least log-loss. Above 1 this head was too sure. No prediction changes.
    public func calibrated(_ features: Matrix, labels: [Int]) throws(ByolError) -> (head: Head, temperature: Double) {
        let labels = try checked(labels, rows: features.rows)
        var cool = byol_head()
        var temperature = 0.0
        try attempt { error in
            use {
                byol_head_calibrate(
                    $0, features.values, features.rows, features.columns, features.stride, labels, &cool, &temperature, error)
            }
        }
        return (try Head(cool), temperature)
    }

    /// The `k` most probable classes of every row, best first.
    ///
    /// A class less probable than `threshold` becomes nil; with `k` 1, that refuses rows that the head is not sure of.
    public func top(_ k: Int, of features: Matrix, threshold: Float = 0) throws(ByolError) -> Ranking {
        guard 1...classes ~= k else { throw ByolError(.invalidArgument, "k is \(k), not 1 to the \(classes) classes") }
        let wanted = try unsigned(k, "k")
        let length = try product(features.rows, k)
        var labels = [UInt32](repeating: 0, count: length)
        var probabilities = [Float](repeating: 0, count: length)
        try attempt { error in
            use {
                byol_head_top_k(
                    $0, features.values, features.rows, features.columns, features.stride, wanted, threshold, &labels, length,
                    &probabilities, length, error)
            }
        }
        return Ranking(
            labels: (0..<features.rows).map { row in
                labels[row * k..<(row + 1) * k].map { $0 == BYOL_NO_CLASS ? nil : Int($0) }
            },
            probabilities: Matrix(probabilities, features.rows, k, k))
    }

    /// The head as an ONNX model: alone, from "features" to "logits" and "probabilities", where `encoder` is nil; else behind
    /// the encoder of that source, as one classifier from pictures to both, which stock ONNX Runtime runs.
    public func onnx(behind encoder: Source? = nil) throws(ByolError) -> Data {
        var needed = 0
        try export(behind: encoder) { byol_head_export_onnx_bytes($0, $1, nil, 0, &needed, $2) }
        var data = Data(count: needed)
        try export(behind: encoder) { head, source, error in
            data.withUnsafeMutableBytes { bytes in
                let start = bytes.assumingMemoryBound(to: UInt8.self).baseAddress
                return byol_head_export_onnx_bytes(head, source, start, bytes.count, &needed, error)
            }
        }
        return data
    }

    /// Writes what `onnx` gives to a file, whole or not at all.
    public func exportONNX(path: String, behind encoder: Source? = nil) throws(ByolError) {
        try checkNoNUL(path, "the path")
        try export(behind: encoder) { byol_head_export_onnx($0, $1, path, $2) }
    }

    /// Lends C the head and its encoder's source for one call: a reader gives its bytes once.
    private func export(
        behind encoder: Source?,
        _ give: (byol_head, UnsafePointer<byol_source>?, UnsafeMutablePointer<byol_error>) -> byol_status
    ) throws(ByolError) {
        guard let encoder else { return try attempt { error in use { give($0, nil, error) } } }
        let result = try encoder.use { source in
            Result { () throws(ByolError) in try attempt { error in use { give($0, source, error) } } }
        }
        try result.get()
    }
}

/// The most probable classes of rows, best first.
public struct Ranking: Sendable, Equatable {
    /// For each row its classes, counted from 0; nil in place of one that was not probable enough.
    public let labels: [[Int?]]
    /// For each row their probabilities.
    public let probabilities: Matrix
}
