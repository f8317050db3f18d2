import CByol
import Foundation

/// What a container of features holds.
public struct FeaturesInfo: Sendable, Hashable {
    /// Number of rows.
    public let rows: Int
    /// Features of a row.
    public let dimension: Int
    /// Number of classes that have names.
    public let classes: Int
    /// Whether the rows have labels.
    public let hasLabels: Bool
    /// Whether the rows have names.
    public let hasNames: Bool
    /// SHA-256 of the file of the encoder that made the features; empty if it is not known.
    public let encoderSHA256: String
}

/// The rows of a container that are nearest to queries.
public struct Nearest: Sendable, Equatable {
    /// For each query the numbers of its rows, nearest first.
    public let rows: [[Int]]
    /// For each query the cosines of its rows.
    public let similarities: Matrix
}

/// A container: rows of features with what is known about each, kept in files and searched by similarity. Any number of
/// threads and tasks may share it. It is closed at the end of its life.
public final class Features: Sendable {
    private let handle: Handle
    /// Features of a row.
    public let dimension: Int

    /// The container that `make` writes.
    init(
        _ make: (UnsafeMutablePointer<byol_features>, UnsafeMutablePointer<byol_error>) -> byol_status
    ) throws(ByolError) {
        var features = byol_features()
        try attempt { make(&features, $0) }
        let handle = Handle(features.id) { byol_features_close(byol_features(id: $0), nil) }
        self.handle = handle
        dimension = try Self.info(handle).dimension
    }

    /// An empty container for features of an encoder.
    public convenience init(of encoder: ImageEncoder) throws(ByolError) {
        try self.init { (features, error) in encoder.use { byol_features_create($0.orClosed, 0, features, error) } }
    }

    /// An empty container for features of so many numbers each, whose encoder is not known.
    public convenience init(dimension: Int) throws(ByolError) {
        try checkCompatible()
        let dimension = try unsigned(dimension, "dimension")
        try self.init { byol_features_create(byol_encoder(id: 0), dimension, $0, $1) }
    }

    /// Reads a container from a file that `save` or the command wrote, or any two-dimensional ".npy" of numbers.
    public convenience init(path: String) throws(ByolError) {
        try checkCompatible()
        try checkNoNUL(path, "the path")
        try self.init { byol_features_load(path, $0, $1) }
    }

    /// Reads a container from the file at a file URL.
    public convenience init(contentsOf url: URL) throws(ByolError) { try self.init(path: url.path) }

    /// Closes the container before its time. Calls that use it finish, later ones throw `.closed`. May be called again.
    public func close() { handle.close() }

    func use<Result>(_ body: (byol_features) -> Result) -> Result {
        handle.use { body(byol_features(id: $0)) }
    }

    /// What the container holds.
    public func info() throws(ByolError) -> FeaturesInfo { try Self.info(handle) }

    private static func info(_ handle: Handle) throws(ByolError) -> FeaturesInfo {
        var info = byol_features_info.started()
        try attempt { error in handle.use { byol_features_get_info(byol_features(id: $0), &info, error) } }
        return FeaturesInfo(
            rows: Int(clamping: info.rows), dimension: Int(info.dimension), classes: Int(info.classes),
            hasLabels: info.has_labels != 0, hasNames: info.has_names != 0, encoderSHA256: string(info.encoder_sha256))
    }

    /// Adds rows, with their labels and names, or nil where they have none: either all rows of a container have labels, or
    /// none has, and so for names. All are added or none.
    public func append(_ values: Matrix, labels: [Int]? = nil, names: [String]? = nil) throws(ByolError) {
        var numbers: [UInt32]?
        if let labels { numbers = try checked(labels, rows: values.rows) }
        if let names {
            guard names.count == values.rows else {
                throw ByolError(.shape, "\(names.count) names for \(values.rows) rows")
            }
            for (row, name) in names.enumerated() { try checkNoNUL(name, "the name of row \(row)", item: row) }
        }
        try attempt { error in
            withTexts(names ?? []) { names in
                withArray(numbers) { numbers in
                    use {
                        byol_features_append(
                            $0, values.values, values.rows, values.columns, values.stride, numbers, names, error)
                    }
                }
            }
        }
    }

    /// Names the classes that labels count.
    public func setClasses(_ names: [String]) throws(ByolError) {
        for (label, name) in names.enumerated() { try checkNoNUL(name, "the name of class \(label)", item: label) }
        let count = try unsigned(names.count, "the number of classes")
        try attempt { error in
            withTexts(names) { names in use { byol_features_set_classes($0, names, count, error) } }
        }
    }

    /// Copies rows.
    public func rows(_ range: Range<Int>) throws(ByolError) -> Matrix {
        try check(range)
        var values = [Float](repeating: 0, count: try product(range.count, dimension))
        if !range.isEmpty {
            try attempt { error in
                use {
                    byol_features_get_rows($0, range.lowerBound, range.count, &values, 0, values.count, nil, error)
                }
            }
        }
        return Matrix(values, range.count, dimension, dimension)
    }

    /// Copies labels of rows.
    public func labels(_ range: Range<Int>) throws(ByolError) -> [Int] {
        try check(range)
        var labels = [UInt32](repeating: 0, count: range.count)
        if !range.isEmpty {
            try attempt { error in
                use { byol_features_get_rows($0, range.lowerBound, range.count, nil, 0, 0, &labels, error) }
            }
        }
        return labels.map(Int.init)
    }

    /// Refuses rows that are not there, before room is made for them.
    private func check(_ range: Range<Int>) throws(ByolError) {
        let rows = try info().rows
        guard range.lowerBound >= 0, range.upperBound <= rows else {
            throw ByolError(.notFound, "rows \(range) of \(rows)")
        }
    }

    /// The name of a row, or `.notFound`.
    public func name(_ row: Int) throws(ByolError) -> String {
        guard row >= 0 else { throw ByolError(.notFound, "row \(row)") }
        return try readText { buffer, capacity, needed, error in
            use { byol_features_get_name($0, row, buffer, capacity, needed, error) }
        }
    }

    /// The name of a class, counted from 0, or `.notFound`.
    public func className(_ label: Int) throws(ByolError) -> String {
        let label = try unsigned(label, "the class")
        return try readText { buffer, capacity, needed, error in
            use { byol_features_get_class($0, label, buffer, capacity, needed, error) }
        }
    }

    /// Writes the container to a file, whole or not at all: ".safetensors" takes everything, ".npy" the features alone.
    public func save(path: String) throws(ByolError) {
        try checkNoNUL(path, "the path")
        try attempt { error in use { byol_features_save($0, path, error) } }
    }

    /// Writes the container to the file at a file URL, whole or not at all.
    public func save(to url: URL) throws(ByolError) { try save(path: url.path) }

    /// The cosine of each query with every row: a row for each query, a column for each row of the container.
    public func similarity(_ queries: Matrix) throws(ByolError) -> Matrix {
        let rows = try info().rows
        var cosines = [Float](repeating: 0, count: try product(queries.rows, rows))
        try attempt { error in
            use {
                byol_features_similarity(
                    $0, queries.values, queries.rows, queries.columns, queries.stride, &cosines, cosines.count, error)
            }
        }
        return Matrix(cosines, queries.rows, rows, rows)
    }

    /// The `k` rows with the largest cosine to each query, nearest first, the lower row first in a tie.
    public func nearest(_ queries: Matrix, k: Int) throws(ByolError) -> Nearest {
        let rows = try info().rows
        guard rows == 0 || 1...rows ~= k else { throw ByolError(.invalidArgument, "k is \(k), not 1 to the \(rows) rows") }
        let wanted = try unsigned(k, "k")
        let length = try product(queries.rows, k)
        var numbers = [UInt32](repeating: 0, count: length)
        var cosines = [Float](repeating: 0, count: length)
        try attempt { error in
            use {
                byol_features_nearest(
                    $0, queries.values, queries.rows, queries.columns, queries.stride, wanted, &numbers, length, &cosines,
                    length, error)
            }
        }
        return Nearest(
            rows: (0..<queries.rows).map { row in numbers[row * k..<(row + 1) * k].map(Int.init) },
            similarities: Matrix(cosines, queries.rows, k, k))
    }
}

extension byol_encoder {
    /// Where 0 would mean no encoder, but this one is closed.
    var orClosed: byol_encoder { byol_encoder(id: id == 0 ? .max : id) }
}

/// Rows of features in fewer bytes, without gaps.
public struct PackedFeatures: Sendable, Equatable {
    /// How features lie in fewer bytes.
    public enum Packing: UInt32, Sendable, CaseIterable {
        /// 2 bytes, float16: a relative error of at most 2^-11; values beyond 65504 become 65504.
        case float16 = 1
        /// 1 byte from -127 to 127, times the row's scale: an error of at most half a scale.
        case int8

        var size: Int { self == .float16 ? 2 : 1 }
    }

    /// How they lie.
    public let packing: Packing
    /// Number of rows.
    public let rows: Int
    /// Features of a row.
    public let columns: Int
    /// The values, in the machine's byte order.
    public let data: Data
    /// With `.int8` one number for each row, else none.
    public let scales: [Float]

    /// Packs features.
    public init(_ features: Matrix, as packing: Packing) throws(ByolError) {
        try checkCompatible()
        try self.init(features.rows, features.columns, packing) { packed, length, scales, error in
            byol_pack(
                features.values, features.rows, features.columns, features.stride, packing.rawValue, packed, length, scales,
                error)
        }
    }

    private init(
        _ rows: Int, _ columns: Int, _ packing: Packing,
        _ fill: (UnsafeMutableRawPointer?, Int, UnsafeMutablePointer<Float>?, UnsafeMutablePointer<byol_error>) -> byol_status
    ) throws(ByolError) {
        let values = try product(rows, columns)
        // Pairs of bytes, so that they lie as float16 must.
        var storage = [UInt16](repeating: 0, count: (values * packing.size + 1) / 2)
        var scales = [Float](repeating: 0, count: packing == .int8 ? rows : 0)
        try attempt { error in
            storage.withUnsafeMutableBytes { bytes in
                scales.withUnsafeMutableBufferPointer { scales in
                    fill(bytes.baseAddress, values * packing.size, scales.baseAddress, error)
                }
            }
        }
        (self.packing, self.rows, self.columns, self.scales) = (packing, rows, columns, scales)
        data = storage.withUnsafeBytes { Data($0.prefix(values * packing.size)) }
    }

    /// The features again, as near as the packing allows.
    public func unpacked() throws(ByolError) -> Matrix {
        var values = [Float](repeating: 0, count: try product(rows, columns))
        // A Data may begin anywhere.
        var storage = [UInt16](repeating: 0, count: (data.count + 1) / 2)
        storage.withUnsafeMutableBytes { _ = data.copyBytes(to: $0) }
        try attempt { error in
            storage.withUnsafeBytes {
                byol_unpack(
                    $0.baseAddress, data.count, packing.rawValue, scales, rows, columns, &values, 0, values.count, error)
            }
        }
        return Matrix(values, rows, columns, columns)
    }
}

extension ImageEncoder {
    /// The features of pictures in fewer bytes. The first bad picture fails the call.
    public func extract(
        _ pictures: [Picture], as packing: PackedFeatures.Packing, cancellation: Cancellation? = nil
    ) throws(ByolError) -> PackedFeatures {
        let features = try extract(pictures, cancellation: cancellation)
        return try PackedFeatures(features, as: packing)
    }
}
