import CByol
import Foundation

/// Why a call failed. Every function of this package that throws throws this type, so that `catch` knows it:
///
///     do {
///         let head = try Head(contentsOf: url)
///     } catch {
///         switch error.code {
///         case .notFound: ...
///         default: print(error)
///         }
///     }
public struct ByolError: Error, Sendable, Hashable {
    /// The kind of failure. The numbers are libbyol's, and stay; expect ones that this version has no name for.
    public struct Code: RawRepresentable, Sendable, Hashable {
        /// libbyol's number.
        public let rawValue: Int32

        /// The kind of failure with libbyol's number.
        public init(rawValue: Int32) { self.rawValue = rawValue }

        /// Success: never thrown, but found in `Extraction.statuses`.
        public static let ok = Code(rawValue: BYOL_OK)
        /// An argument or option has a value that means nothing; the message names it.
        public static let invalidArgument = Code(rawValue: BYOL_E_INVALID_ARG)
        /// Something that must be there is missing, such as the bytes of a picture.
        public static let nullPointer = Code(rawValue: BYOL_E_NULL_POINTER)
        /// An encoder, head, runtime or cancellation is closed.
        public static let closed = Code(rawValue: BYOL_E_HANDLE)
        /// The library is older than this package, or of another major version.
        public static let abi = Code(rawValue: BYOL_E_ABI)
        /// Not enough memory for something whose size the caller decides.
        public static let noMemory = Code(rawValue: BYOL_E_NO_MEMORY)
        /// A file or folder can't be read or written.
        public static let io = Code(rawValue: BYOL_E_IO)
        /// A file, a metadata key or a class does not exist.
        public static let notFound = Code(rawValue: BYOL_E_NOT_FOUND)
        /// This build of libbyol can't do that.
        public static let unsupported = Code(rawValue: BYOL_E_UNSUPPORTED)
        /// This processor lacks instructions that are needed.
        public static let unsupportedCPU = Code(rawValue: BYOL_E_UNSUPPORTED_CPU)
        /// Not an ONNX model, or a damaged one.
        public static let modelInvalid = Code(rawValue: BYOL_E_MODEL_INVALID)
        /// An ONNX model that can't serve as an encoder; the message says why.
        public static let modelUnsupported = Code(rawValue: BYOL_E_MODEL_UNSUPPORTED)
        /// Sizes that must agree do not.
        public static let shape = Code(rawValue: BYOL_E_SHAPE)
        /// A picture can't be decoded.
        public static let imageDecode = Code(rawValue: BYOL_E_IMAGE_DECODE)
        /// A picture, file or model is larger than allowed.
        public static let limit = Code(rawValue: BYOL_E_LIMIT)
        /// A buffer to write to is too short.
        public static let bufferTooSmall = Code(rawValue: BYOL_E_BUFFER_TOO_SMALL)
        /// Labels and rows, or labels and classes, do not fit together.
        public static let label = Code(rawValue: BYOL_E_LABEL)
        /// A feature is NaN or infinite.
        public static let nonFinite = Code(rawValue: BYOL_E_NON_FINITE)
        /// There is nothing to learn from the examples.
        public static let data = Code(rawValue: BYOL_E_DATA)
        /// A file is not what it should be.
        public static let corrupt = Code(rawValue: BYOL_E_CORRUPT)
        /// A file was written by a newer byol.
        public static let newerFormat = Code(rawValue: BYOL_E_NEWER_FORMAT)
        /// Stopped: the task was cancelled, or a `Cancellation` or progress function said so.
        public static let cancelled = Code(rawValue: BYOL_E_CANCELLED)
        /// Stopped at the deadline of a `Cancellation`.
        public static let deadline = Code(rawValue: BYOL_E_DEADLINE)
        /// The process already runs ONNX Runtime with other settings.
        public static let busyConfig = Code(rawValue: BYOL_E_BUSY_CONFIG)
        /// The process was forked after it first used libbyol.
        public static let forked = Code(rawValue: BYOL_E_FORKED)
        /// ONNX Runtime failed, or can't be loaded; the message lists every place that was tried.
        public static let runtime = Code(rawValue: BYOL_E_RUNTIME)
        /// A defect in libbyol was caught; please report the message.
        public static let panic = Code(rawValue: BYOL_E_PANIC)
        /// `Library.shutdown()` was called.
        public static let shutdown = Code(rawValue: BYOL_E_SHUTDOWN)
        /// The head was fitted on the features of another encoder.
        public static let wrongEncoder = Code(rawValue: BYOL_E_WRONG_ENCODER)
        /// Unpenalised, and the classes can be told apart without error: there is no optimum.
        public static let noOptimum = Code(rawValue: BYOL_E_NO_OPTIMUM)
        /// The solver ran out of iterations.
        public static let notConverged = Code(rawValue: BYOL_E_NOT_CONVERGED)
        /// A callback called what it must not call.
        public static let reentrant = Code(rawValue: BYOL_E_REENTRANT)
        /// A model's SHA-256 is not the one that was asked for.
        public static let checksum = Code(rawValue: BYOL_E_CHECKSUM)
        /// A failure that this version has no code for; the message says what it was.
        public static let other = Code(rawValue: BYOL_E_OTHER)

        /// The code's name in C, such as "BYOL_E_SHAPE".
        public var name: String { String(cString: byol_status_name(rawValue)) }

        /// Whether the same call may succeed later without any change by the caller: memory, files, time.
        public var isRetryable: Bool { byol_status_is_retryable(rawValue) != 0 }
    }

    /// The kind of failure.
    public let code: Code
    /// One sentence that names the culprit.
    public let message: String
    /// The picture, file or row to blame, counted from 0; nil when no single one is.
    public let item: Int?
    /// ONNX Runtime's own code with `.runtime`, where there is one, else 0.
    public let runtimeCode: Int

    init(_ code: Code, _ message: String, item: Int? = nil) {
        (self.code, self.message, self.item, runtimeCode) = (code, message, item, 0)
    }

    fileprivate init(_ error: byol_error, status: byol_status, firstItem: Int) {
        code = Code(rawValue: status)
        let text = string(error.message)
        message = text.isEmpty ? code.name : text
        item = error.item_index == UInt32.max ? nil : Int(error.item_index) + firstItem
        runtimeCode = Int(error.runtime_code)
    }
}

extension ByolError: CustomStringConvertible, LocalizedError {
    /// The message, with the name of the code.
    public var description: String { "\(message) (\(code.name))" }
    /// The message.
    public var errorDescription: String? { message }
}

extension ByolError.Code: CustomStringConvertible {
    /// The name in C.
    public var description: String { name }
}

/// Calls libbyol, and throws what its status says. `firstItem` is the number of the call's first picture.
func attempt(firstItem: Int = 0, _ call: (UnsafeMutablePointer<byol_error>) -> byol_status) throws(ByolError) {
    var error = byol_error.started()
    let status = call(&error)
    if status != BYOL_OK {
        throw ByolError(error, status: status, firstItem: firstItem)
    }
}

/// Checks once that the library can serve the header that this package was compiled with.
func checkCompatible() throws(ByolError) {
    try compatible.get()
}

private let compatible = Result { () throws(ByolError) in
    try attempt { byol_abi_check(UInt32(BYOL_VERSION_MAJOR), UInt32(BYOL_VERSION_MINOR), $0) }
}
