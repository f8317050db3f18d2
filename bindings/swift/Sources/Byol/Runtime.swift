import CByol
import Foundation

/// ONNX Runtime, started with certain settings. A process has one. Programs that need no settings need no `Runtime`: the
/// first encoder starts it.
public final class Runtime: Sendable {
    let handle: Handle

    /// Starts ONNX Runtime with certain settings, or throws `.busyConfig` if it runs with others.
    ///
    /// - Parameters:
    ///   - threads: for all encoders together; 0 takes what the process may use.
    ///   - library: the path of the ONNX Runtime library, or of the folder it lies in. nil looks for it: in the
    ///     environment variable BYOL_ONNXRUNTIME, in the folders of libbyol and of the program, at last where the
    ///     system's loader looks.
    ///   - maxMemory: most bytes that libbyol itself may hold, ONNX Runtime's not counted; 0 for no limit. What sizes of
    ///     the caller decide then throws `.limit`. Once set it stays.
    public init(threads: Int = 0, library: String? = nil, maxMemory: UInt64 = 0) throws(ByolError) {
        try checkCompatible()
        if let library { try checkNoNUL(library, "library") }
        let threads = try unsigned(threads, "threads")
        var runtime = byol_runtime()
        try attempt { error in
            withText(library) { library in
                var options = byol_runtime_options.started()
                (options.threads, options.library, options.max_memory) = (threads, library, maxMemory)
                return byol_runtime_create(&options, &runtime, error)
            }
        }
        handle = Handle(runtime.id) { byol_runtime_close(byol_runtime(id: $0), nil) }
    }

    /// Closes the `Runtime` before its time. ONNX Runtime itself stays, and so do encoders. May be called again.
    public func close() { handle.close() }

    /// What libbyol has done in this process, and holds.
    public static func stats() throws(ByolError) -> RuntimeStats {
        try checkCompatible()
        var stats = byol_runtime_stats.started()
        try attempt { byol_runtime_get_stats(&stats, $0) }
        return RuntimeStats(
            threads: Int(stats.threads), calls: stats.calls, failures: stats.failures, pictures: stats.pictures,
            heldBytes: stats.held_bytes, heldPeak: stats.held_peak, maxMemory: stats.max_memory,
            residentBytes: stats.resident_bytes, residentPeak: stats.resident_peak)
    }

    /// Gives memory that nobody holds any more back to the system, where the C library can be told to.
    public static func trim() throws(ByolError) {
        try checkCompatible()
        try attempt { byol_runtime_trim($0) }
    }
}

/// What libbyol has done in this process, and holds.
public struct RuntimeStats: Sendable, Hashable {
    /// Threads that all encoders share; 0 before ONNX Runtime is started.
    public let threads: Int
    /// Calls of functions that can fail.
    public let calls: UInt64
    /// Those of them that failed.
    public let failures: UInt64
    /// Pictures whose features were asked for.
    public let pictures: UInt64
    /// Bytes that libbyol has allocated now, ONNX Runtime's not counted.
    public let heldBytes: UInt64
    /// The most that `heldBytes` ever was.
    public let heldPeak: UInt64
    /// The limit on `heldBytes`; 0 for none.
    public let maxMemory: UInt64
    /// Bytes of the process in memory; 0 where the system does not say.
    public let residentBytes: UInt64
    /// The most that `residentBytes` ever was.
    public let residentPeak: UInt64
}
