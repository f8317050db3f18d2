import CByol
import Foundation

/// An ONNX file: on disk, in memory, or from a function.
public struct Source: Sendable {
    /// Writes the next bytes of a file into a buffer, and says how many there are; 0 at the end of the file.
    public typealias Reader = @Sendable (UnsafeMutableRawBufferPointer) throws -> Int

    enum Place: Sendable {
        case path(String)
        case bytes(Data)
        case reader(@Sendable () -> Reader)
    }

    let place: Place
    let sha256: String?
    /// Whether the model may keep tensors in further files: regular ones in the folder of its path. Without it such a
    /// model is refused.
    public var allowsExternalData = false

    private init(place: Place, sha256: String?) { (self.place, self.sha256) = (place, sha256) }

    /// The file at a path. `sha256`, 64 hexadecimal digits, is what it must have; nil for any.
    public static func path(_ path: String, sha256: String? = nil) -> Source {
        Source(place: .path(path), sha256: sha256)
    }

    /// The file at a file URL, such as a bundle's resource.
    public static func file(_ url: URL, sha256: String? = nil) -> Source {
        Source(place: .path(url.path), sha256: sha256)
    }

    /// The bytes of a file.
    public static func bytes(_ data: Data, sha256: String? = nil) -> Source {
        Source(place: .bytes(data), sha256: sha256)
    }

    /// The bytes that a function gives, for files that are encrypted or packed.
    ///
    /// `open` makes a reader that begins at the file's first byte; it is called once for each use of the source. The reader
    /// is called on the thread that uses the source until it returns 0. What it throws ends the use of the source with a
    /// `ByolError`, `.io`.
    public static func reader(sha256: String? = nil, _ open: @escaping @Sendable () -> Reader) -> Source {
        Source(place: .reader(open), sha256: sha256)
    }

    /// Lends C the source, for the length of a call.
    func use<Result>(_ body: (UnsafePointer<byol_source>) -> Result) throws(ByolError) -> Result {
        if let sha256 { try checkNoNUL(sha256, "sha256") }
        if case .path(let path) = place { try checkNoNUL(path, "the path") }
        return withText(sha256) { sha256 in
            var source = byol_source.started()
            source.sha256 = sha256
            source.flags = allowsExternalData ? UInt32(BYOL_SOURCE_EXTERNAL_DATA) : 0
            switch place {
            case .path(let path):
                return path.withCString {
                    source.path = $0
                    return body(&source)
                }
            case .bytes(let data):
                return data.withUnsafeBytes { bytes in
                    // No bytes are no model, which is another mistake than no source.
                    var nothing: UInt8 = 0
                    return withUnsafePointer(to: &nothing) {
                        source.data = bytes.assumingMemoryBound(to: UInt8.self).baseAddress ?? $0
                        source.data_len = bytes.count
                        return body(&source)
                    }
                }
            case .reader(let open):
                let reading = Reading(open())
                return withExtendedLifetime(reading) {
                    source.read = readNext
                    source.user = Unmanaged.passUnretained(reading).toOpaque()
                    return body(&source)
                }
            }
        }
    }

    /// Reads what the file says of itself. Nothing of it is run, and ONNX Runtime is not needed.
    public func inspect() throws(ByolError) -> ModelInfo {
        try checkCompatible()
        var info = byol_model_info.started()
        let failure = try use { source in
            Result { () throws(ByolError) in try attempt { byol_model_inspect(source, &info, $0) } }
        }
        try failure.get()
        return ModelInfo(info)
    }
}

/// What one use of a source lends to libbyol.
private final class Reading {
    let read: Source.Reader

    init(_ read: @escaping Source.Reader) { self.read = read }
}

private func readNext(user: UnsafeMutableRawPointer?, buffer: UnsafeMutablePointer<UInt8>?, capacity: Int) -> Int64 {
    guard let user, let buffer else { return -1 }
    let reading = Unmanaged<Reading>.fromOpaque(user).takeUnretainedValue()
    let room = UnsafeMutableRawBufferPointer(start: buffer, count: capacity)
    return (try? reading.read(room)).map(Int64.init) ?? -1
}

/// What a model file says of itself. A size is 0 where the model leaves it open.
public struct ModelInfo: Sendable, Hashable {
    /// The type of an input's values.
    public enum Element: UInt32, Sendable {
        /// One that encoders don't take.
        case other
        /// Pixels of 0 to 255, as [n, height, width, channels].
        case uint8
        /// Normalised values, as [n, channels, height, width].
        case float32
    }

    /// What the first input takes.
    public let input: Element
    /// Channels of the first input.
    public let channels: Int
    /// Height of the first input.
    public let height: Int
    /// Width of the first input.
    public let width: Int
    /// Features per picture of the first output.
    public let dimension: Int
    /// Whether the file says how pictures become input.
    public let hasContract: Bool
    /// Whether the file keeps tensors in other files: `Source.allowsExternalData`.
    public let hasExternalData: Bool
    /// Number of operators.
    public let nodes: Int
    /// Version of the operator set.
    public let opset: Int
    /// SHA-256 of the file, hexadecimal.
    public let sha256: String
    /// Program that wrote the file.
    public let producer: String
    /// Name of the first input.
    public let inputName: String
    /// Name of the first output.
    public let outputName: String

    init(_ info: byol_model_info) {
        input = Element(rawValue: info.input_type) ?? .other
        (channels, height, width) = (Int(info.channels), Int(info.height), Int(info.width))
        dimension = Int(info.dimension)
        hasContract = info.has_contract != 0
        hasExternalData = info.has_external_data != 0
        (nodes, opset) = (Int(clamping: info.nodes), Int(info.opset))
        (sha256, producer) = (string(info.sha256), string(info.producer))
        (inputName, outputName) = (string(info.input_name), string(info.output_name))
    }
}
