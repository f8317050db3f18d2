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
    public init(threads: Int = 0, library: String? = nil) throws(ByolError) {
        try checkCompatible()
        if let library { try checkNoNUL(library, "library") }
        let threads = try unsigned(threads, "threads")
        var runtime = byol_runtime()
        try attempt { error in
            withText(library) { library in
                var options = byol_runtime_options.started()
                (options.threads, options.library) = (threads, library)
                return byol_runtime_create(&options, &runtime, error)
            }
        }
        handle = Handle(runtime.id) { byol_runtime_close(byol_runtime(id: $0), nil) }
    }

    /// Closes the `Runtime` before its time. ONNX Runtime itself stays, and so do encoders. May be called again.
    public func close() { handle.close() }
}
