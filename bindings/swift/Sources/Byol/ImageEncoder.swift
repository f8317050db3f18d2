import CByol
import Foundation

/// How to open an encoder.
public struct EncoderOptions: Sendable {
    /// Calls that may be inferred at the same time, each with its own copy of the weights; 0 is 1, which uses all threads
    /// for one call at a time. Further calls wait their turn.
    public var sessions = 0
    /// Largest model file that is read, in bytes; 0 is 2 GiB.
    public var maxModelBytes: UInt64 = 0
    /// Largest picture that is decoded, in pixels; 0 is 100 million.
    public var maxImagePixels: UInt64 = 0
    /// Largest picture file that is read, in bytes; 0 is 256 MiB.
    public var maxImageBytes: UInt64 = 0
    /// How pictures become input, instead of what the file says; nil takes that.
    public var contract: Contract?
    /// The output that holds the features; nil takes "features", or else the first of float32.
    public var output: String?
    /// The runtime to use; nil starts the default one, unless one runs already.
    public var runtime: Runtime?

    /// The defaults.
    public init() {}
}

/// What an open encoder is.
public struct EncoderInfo: Sendable, Hashable {
    /// Features per picture.
    public let dimension: Int
    /// Calls that may be inferred at the same time.
    public let sessions: Int
    /// Threads that all encoders share.
    public let threads: Int
    /// How pictures become input.
    public let contract: Contract
    /// SHA-256 of the file, hexadecimal.
    public let sha256: String
}

/// An opened model that turns pictures into features. Any number of threads and tasks may share it. It is closed at the
/// end of its life.
///
/// Every call has two forms: the asynchronous one works off Swift's cooperative pool and stops soon after its task is
/// cancelled; the synchronous one works on the calling thread, and takes a `Cancellation`.
public final class ImageEncoder: Sendable {
    let handle: Handle
    /// Features per picture.
    public let dimension: Int

    /// Opens a model file.
    public init(_ source: Source, options: EncoderOptions = EncoderOptions()) throws(ByolError) {
        (handle, dimension) = try Self.open(source, options)
    }

    /// Opens a model file. A task that is cancelled meanwhile still waits for it, since opening can't be stopped.
    public init(_ source: Source, options: EncoderOptions = EncoderOptions()) async throws(ByolError) {
        (handle, dimension) = try await Work.run { _ throws(ByolError) in try Self.open(source, options) }
    }

    private static func open(_ source: Source, _ options: EncoderOptions) throws(ByolError) -> (Handle, Int) {
        try checkCompatible()
        if let output = options.output { try checkNoNUL(output, "output") }
        var contract = try options.contract?.c() ?? byol_contract.started()
        let hasContract = options.contract != nil
        let sessions = try unsigned(options.sessions, "sessions")
        var encoder = byol_encoder()
        let result = try source.use { source in
            Result { () throws(ByolError) in
                try attempt { error in
                    withText(options.output) { output in
                        withUnsafePointer(to: &contract) { contract in
                            var o = byol_encoder_options.started()
                            (o.sessions, o.output, o.max_model_bytes) = (sessions, output, options.maxModelBytes)
                            (o.max_image_pixels, o.max_image_bytes) = (options.maxImagePixels, options.maxImageBytes)
                            o.contract = hasContract ? contract : nil
                            guard let runtime = options.runtime else {
                                return byol_encoder_open(byol_runtime(id: 0), source, &o, &encoder, error)
                            }
                            return runtime.handle.use { id in
                                // 0 would mean the default one.
                                byol_encoder_open(byol_runtime(id: id == 0 ? .max : id), source, &o, &encoder, error)
                            }
                        }
                    }
                }
            }
        }
        try result.get()
        let handle = Handle(encoder.id) { byol_encoder_close(byol_encoder(id: $0), nil) }
        return (handle, try info(handle).dimension)
    }

    /// Closes the encoder before its time. Calls that use it finish, later ones throw `.closed`. May be called again.
    public func close() { handle.close() }

    func use<Result>(_ body: (byol_encoder) -> Result) -> Result {
        handle.use { body(byol_encoder(id: $0)) }
    }

    /// What the encoder is.
    public func info() throws(ByolError) -> EncoderInfo { try Self.info(handle) }

    private static func info(_ handle: Handle) throws(ByolError) -> EncoderInfo {
        var info = byol_encoder_info.started()
        try attempt { error in handle.use { byol_encoder_get_info(byol_encoder(id: $0), &info, error) } }
        return EncoderInfo(
            dimension: Int(info.dimension), sessions: Int(info.sessions), threads: Int(info.threads),
            contract: Contract(info), sha256: string(info.sha256))
    }

    /// All that the model file's metadata say.
    public func metadata() throws(ByolError) -> [String: String] {
        var all: [String: String] = [:]
        while true {
            let key: String
            do throws(ByolError) {
                key = try readText { buffer, capacity, needed, error in
                    use { byol_encoder_get_metadata_key($0, all.count, buffer, capacity, needed, error) }
                }
            } catch {
                guard error.code == .notFound else { throw error }
                return all
            }
            all[key] = try metadata(key)
        }
    }

    /// The value of one key of the model file's metadata, such as "byol.input.size", or `.notFound`.
    public func metadata(_ key: String) throws(ByolError) -> String {
        try checkNoNUL(key, "the key")
        return try readText { buffer, capacity, needed, error in
            use { byol_encoder_get_metadata($0, key, buffer, capacity, needed, error) }
        }
    }
}
