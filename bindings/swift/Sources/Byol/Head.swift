import CByol
import Foundation

/// What a head is.
public struct HeadInfo: Sendable, Hashable {
    /// Number of classes.
    public let classes: Int
    /// Features per picture that it takes.
    public let dimension: Int
    /// Whether its fit met the tolerance.
    public let converged: Bool
    /// Examples that it was fitted on; 0 if it is not known.
    public let examples: Int
    /// Penalty that it was fitted with; 0 if it is not known.
    public let l2: Double
    /// SHA-256 of the file of the encoder whose features it takes, hexadecimal; empty if it is not known.
    public let encoderSHA256: String
    /// What `calibrated` divided the scores by; 1 where it did not.
    public let temperature: Double
}

/// A head's opinion of some rows or pictures.
public struct Prediction: Sendable, Equatable {
    /// The most probable class of each, counted from 0, the lower number in a tie.
    public let labels: [Int]
    /// A row for each, and a column for each class; each row sums to 1.
    public let probabilities: Matrix
}

/// A head's opinion of pictures of which some may be bad.
public struct Classification: Sendable, Equatable {
    /// The most probable class of each picture; nil for a bad one.
    public let labels: [Int?]
    /// A row for each picture, and a column for each class; zeros for a bad picture.
    public let probabilities: Matrix
    /// How each picture went: `.ok`, or why it is bad.
    public let statuses: [ByolError.Code]
}

/// A linear classifier of features. Any number of threads and tasks may share it. It is closed at the end of its life.
public final class Head: Sendable {
    private let handle: Handle
    /// Number of classes.
    public let classes: Int

    init(_ head: byol_head) throws(ByolError) {
        let handle = Handle(head.id) { byol_head_close(byol_head(id: $0), nil) }
        self.handle = handle
        classes = try Self.info(handle).classes
    }

    private convenience init(_ load: (UnsafeMutablePointer<byol_head>, UnsafeMutablePointer<byol_error>) -> byol_status)
        throws(ByolError)
    {
        try checkCompatible()
        var head = byol_head()
        try attempt { load(&head, $0) }
        try self.init(head)
    }

    /// Reads a head from its file (safetensors), and checks every part of it.
    public convenience init(path: String) throws(ByolError) {
        try checkNoNUL(path, "the path")
        try self.init { byol_head_load(path, $0, $1) }
    }

    /// Reads a head from the file at a file URL.
    public convenience init(contentsOf url: URL) throws(ByolError) {
        try self.init(path: url.path)
    }

    /// Reads a head from the bytes of its file.
    public convenience init(data: some ContiguousBytes) throws(ByolError) {
        try self.init { head, error in
            data.withUnsafeBytes { bytes in
                // No bytes are no head, which is another mistake than no pointer.
                var nothing: UInt8 = 0
                return withUnsafePointer(to: &nothing) {
                    byol_head_load_bytes(
                        bytes.assumingMemoryBound(to: UInt8.self).baseAddress ?? $0, bytes.count, head, error)
                }
            }
        }
    }

    /// Closes the head before its time. Calls that use it finish, later ones throw `.closed`. May be called again.
    public func close() { handle.close() }

    func use<Result>(_ body: (byol_head) -> Result) -> Result {
        handle.use { body(byol_head(id: $0)) }
    }

    /// Writes the head to a file, whole or not at all.
    public func save(path: String) throws(ByolError) {
        try checkNoNUL(path, "the path")
        try attempt { error in use { byol_head_save($0, path, error) } }
    }

    /// Writes the head to the file at a file URL, whole or not at all.
    public func save(to url: URL) throws(ByolError) { try save(path: url.path) }

    /// The bytes of the head's file.
    public func data() throws(ByolError) -> Data {
        var needed = 0
        try attempt { error in use { byol_head_save_bytes($0, nil, 0, &needed, error) } }
        var bytes = Data(count: needed)
        try attempt { error in
            bytes.withUnsafeMutableBytes { bytes in
                use {
                    byol_head_save_bytes(
                        $0, bytes.assumingMemoryBound(to: UInt8.self).baseAddress, bytes.count, &needed, error)
                }
            }
        }
        return bytes
    }

    /// What the head is.
    public func info() throws(ByolError) -> HeadInfo { try Self.info(handle) }

    private static func info(_ handle: Handle) throws(ByolError) -> HeadInfo {
        var info = byol_head_info.started()
        try attempt { error in handle.use { byol_head_get_info(byol_head(id: $0), &info, error) } }
        return HeadInfo(
            classes: Int(info.classes), dimension: Int(info.dimension), converged: info.converged != 0,
            examples: Int(clamping: info.examples), l2: info.l2, encoderSHA256: string(info.encoder_sha256),
            temperature: info.temperature)
    }

    /// The name of a class, counted from 0, or `.notFound`.
    public func className(_ label: Int) throws(ByolError) -> String {
        let label = try unsigned(label, "the class")
        return try readText { buffer, capacity, needed, error in
            use { byol_head_get_label($0, label, buffer, capacity, needed, error) }
        }
    }

    /// The names of all classes.
    public func classNames() throws(ByolError) -> [String] {
        var names: [String] = []
        for label in 0..<classes { names.append(try className(label)) }
        return names
    }

    /// Succeeds when the head belongs to an encoder: it takes features of that length, and was fitted on those of that
    /// very file; a head that does not know its encoder passes. `classify` checks it by itself.
    public func check(_ encoder: ImageEncoder) throws(ByolError) {
        try attempt { error in use { head in encoder.use { byol_head_check(head, $0, error) } } }
    }

    // MARK: Prediction

    /// Predicts the classes of rows of features.
    public func predict(_ features: Matrix) throws(ByolError) -> Prediction {
        let result = features.values.withUnsafeBufferPointer { values in
            Result { () throws(ByolError) in
                try predict(values, rows: features.rows, columns: features.columns, stride: features.stride)
            }
        }
        return try result.get()
    }

    /// Predicts the classes of rows of features in memory of the caller's, `stride` floats apart; nil is `columns`.
    public func predict(
        _ features: UnsafeBufferPointer<Float>, rows: Int, columns: Int, stride: Int? = nil
    ) throws(ByolError) -> Prediction {
        try Matrix.check(rows, columns, stride ?? columns, in: features.count)
        var labels = [UInt32](repeating: 0, count: rows)
        var probabilities = [Float](repeating: 0, count: try product(rows, classes))
        try attempt { error in
            use {
                byol_head_predict(
                    $0, features.baseAddress, rows, columns, stride ?? columns, &labels, &probabilities, probabilities.count, error)
            }
        }
        return Prediction(labels: labels.map(Int.init), probabilities: Matrix(probabilities, rows, classes, classes))
    }

    /// The scores before they become probabilities: features times weights plus bias, a column for each class.
    public func logits(_ features: Matrix) throws(ByolError) -> Matrix {
        var logits = [Float](repeating: 0, count: try product(features.rows, classes))
        try attempt { error in
            use {
                byol_head_logits(
                    $0, features.values, features.rows, features.columns, features.stride, &logits, logits.count, error)
            }
        }
        return Matrix(logits, features.rows, classes, classes)
    }

    /// Extracts and predicts in one call, with the encoder whose features the head was fitted on. The first bad picture
    /// fails the call.
    public func classify(
        _ pictures: [Picture], with encoder: ImageEncoder, cancellation: Cancellation? = nil
    ) throws(ByolError) -> Prediction {
        let (labels, probabilities) = try classify(pictures, encoder, nil, cancellation)
        return Prediction(labels: labels.map(Int.init), probabilities: probabilities)
    }

    /// Extracts and predicts in one call, off the cooperative pool; stops soon after the task is cancelled.
    public func classify(_ pictures: [Picture], with encoder: ImageEncoder) async throws(ByolError) -> Prediction {
        try await Work.run { (cancellation) throws(ByolError) in
            try self.classify(pictures, with: encoder, cancellation: cancellation)
        }
    }

    /// Classifies pictures of which some may be bad.
    public func classifyEach(
        _ pictures: [Picture], with encoder: ImageEncoder, cancellation: Cancellation? = nil
    ) throws(ByolError) -> Classification {
        var statuses = [byol_status](repeating: BYOL_OK, count: pictures.count)
        let result = statuses.withUnsafeMutableBufferPointer { statuses in
            Result { () throws(ByolError) in
                try classify(pictures, encoder, statuses.baseAddress, cancellation)
            }
        }
        let (labels, probabilities) = try result.get()
        return Classification(
            labels: zip(labels, statuses).map { $1 == BYOL_OK ? Int($0) : nil }, probabilities: probabilities,
            statuses: statuses.map(ByolError.Code.init(rawValue:)))
    }

    /// Classifies pictures of which some may be bad, off the cooperative pool.
    public func classifyEach(_ pictures: [Picture], with encoder: ImageEncoder) async throws(ByolError) -> Classification {
        try await Work.run { (cancellation) throws(ByolError) in
            try self.classifyEach(pictures, with: encoder, cancellation: cancellation)
        }
    }

    private func classify(
        _ pictures: [Picture], _ encoder: ImageEncoder, _ statuses: UnsafeMutablePointer<byol_status>?,
        _ cancellation: Cancellation?
    ) throws(ByolError) -> ([UInt32], Matrix) {
        var labels = [UInt32](repeating: 0, count: pictures.count)
        var probabilities = [Float](repeating: 0, count: try product(pictures.count, classes))
        let result = labels.withUnsafeMutableBufferPointer { labels in
            probabilities.withUnsafeMutableBufferPointer { probabilities in
                Result { () throws(ByolError) in
                    var start = 0
                    repeat {
                        let part = pictures[start..<min(start + itemsPerCall, pictures.count)]
                        let length = part.count * classes
                        try attempt(firstItem: start) { error in
                            withAllBytes(part.indices, access: { part[$0].withBytes($1) }) { buffers in
                                let images = zip(part, buffers).map { $0.c($1) }
                                return use { head in
                                    encoder.use { encoder in
                                        cancellation.lend {
                                            byol_head_classify(
                                                head, encoder, images, images.count, nil, labels.baseAddress.map { $0 + start },
                                                probabilities.baseAddress.map { $0 + start * classes }, length,
                                                statuses.map { $0 + start }, $0, error)
                                        }
                                    }
                                }
                            }
                        }
                        start = part.endIndex
                    } while start < pictures.count
                }
            }
        }
        try result.get()
        return (labels, Matrix(probabilities, pictures.count, classes, classes))
    }

    // MARK: Evaluation

    /// Judges the head on features and their labels, one for each row.
    public func evaluate(_ features: Matrix, labels: [Int]) throws(ByolError) -> Metrics {
        let labels = try checked(labels, rows: features.rows)
        var metrics = byol_metrics.started()
        var perClass = [Double](repeating: 0, count: 3 * classes)
        var confusion = [UInt64](repeating: 0, count: try product(classes, classes))
        try attempt { error in
            use {
                byol_head_evaluate(
                    $0, features.values, features.rows, features.columns, features.stride, labels, &metrics, &perClass,
                    perClass.count, &confusion, confusion.count, error)
            }
        }
        return Metrics(metrics, perClass, confusion)
    }
}

/// Labels for C, one for each row.
func checked(_ labels: [Int], rows: Int) throws(ByolError) -> [UInt32] {
    guard labels.count == rows else {
        throw ByolError(.label, "\(labels.count) labels for \(rows) rows")
    }
    if let bad = labels.firstIndex(where: { UInt32(exactly: $0) == nil }) {
        throw ByolError(.label, "the label of row \(bad) is \(labels[bad])", item: bad)
    }
    return labels.map(UInt32.init)
}
