import CByol

/// The library itself: its version, what it runs on, its log.
public enum Library {
    /// The version of the libbyol in use, such as "0.1.0".
    public static var version: String { String(cString: byol_version_string()) }

    /// The version of the libbyol in use as major \* 1000000 + minor \* 1000 + patch.
    public static var versionNumber: Int { Int(byol_version()) }

    /// What libbyol is and runs on, as a JSON object: version, target, processor, picture formats, and, once it is
    /// loaded, ONNX Runtime's version, file and threads.
    public static func buildInfo() throws(ByolError) -> String {
        try readText { byol_build_info($0, $1, $2, $3) }
    }

    /// A kind of thing that is open or closed.
    public enum Kind: UInt32, Sendable, CaseIterable {
        /// All of them together.
        case any
        /// `Runtime`.
        case runtime
        /// `ImageEncoder`.
        case encoder
        /// `Head`.
        case head
        /// `Cancellation`, and what every asynchronous call makes for its time.
        case cancellation
        /// `Features`.
        case features
        /// `Trainer`.
        case trainer
    }

    /// How many things of a kind are open in this process, for tests that look for leaks.
    public static func liveHandles(_ kind: Kind = .any) -> Int { Int(byol_live_handles(kind.rawValue)) }

    /// How much libbyol tells, or what a message is.
    public enum LogLevel: UInt32, Sendable, Comparable {
        /// Nothing.
        case off
        /// Failures, each with its full message.
        case error
        /// Also what was loaded from where.
        case info

        /// Whether one tells less than the other.
        public static func < (one: LogLevel, other: LogLevel) -> Bool { one.rawValue < other.rawValue }
    }

    /// Sends what libbyol has to say, up to a level, to a function; nil for silence, which is how it starts. When this
    /// returns, the function that was there before is not running, and was released.
    ///
    /// The function runs on whatever thread has something to say, at times on several at once. It must call neither
    /// this nor `shutdown()`, which throw `.reentrant` there.
    public static func setLog(
        _ level: LogLevel, _ receive: (@Sendable (LogLevel, String) -> Void)?
    ) throws(ByolError) {
        guard let receive else {
            return try attempt { byol_set_log_sink(nil, nil, nil, level.rawValue, $0) }
        }
        let sink = Unmanaged.passRetained(LogSink(receive))
        do throws(ByolError) {
            try attempt { error in
                byol_set_log_sink(
                    { user, level, message in
                        guard let user, let message else { return }
                        let sink = Unmanaged<LogSink>.fromOpaque(user).takeUnretainedValue()
                        sink.receive(LogLevel(rawValue: level) ?? .info, String(cString: message))
                    }, sink.toOpaque(), { $0.map { Unmanaged<LogSink>.fromOpaque($0).release() } }, level.rawValue, error)
            }
        } catch {
            // libbyol releases only what it took.
            sink.release()
            throw error
        }
    }

    /// Closes everything, and the log; every later call that does work throws `.shutdown`. For programs that want to see
    /// an end; nobody needs to call it.
    public static func shutdown() throws(ByolError) {
        try attempt { byol_shutdown($0) }
    }
}

/// What one `setLog` left with libbyol.
private final class LogSink: Sendable {
    let receive: @Sendable (Library.LogLevel, String) -> Void

    init(_ receive: @escaping @Sendable (Library.LogLevel, String) -> Void) { self.receive = receive }
}
