import CByol
import Foundation

/// Stops synchronous calls from another thread, or at a deadline. Asynchronous calls need none: cancel their task.
public final class Cancellation: Sendable {
    fileprivate let handle: Handle

    /// A cancellation that may go with any number of calls. With `timeout`, calls that run with it then throw
    /// `.deadline`; it is rounded up to milliseconds.
    public init(timeout: Duration? = nil) throws(ByolError) {
        var milliseconds: UInt64 = 0
        if let timeout {
            let (seconds, attoseconds) = timeout.components
            guard seconds >= 0, attoseconds >= 0, seconds < 1 << 50 else {
                throw ByolError(.invalidArgument, "timeout is \(timeout)")
            }
            // 0 would be no deadline at all.
            milliseconds = max(1, UInt64(seconds) * 1000 + UInt64((attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000))
        }
        var token = byol_cancel()
        try attempt { byol_cancel_create(milliseconds, &token, $0) }
        handle = Handle(token.id) { byol_cancel_close(byol_cancel(id: $0), nil) }
    }

    /// Stops all calls that run with it, and those that come: they throw `.cancelled`, usually within milliseconds.
    public func cancel() {
        handle.use { _ = byol_cancel_trigger(byol_cancel(id: $0), nil) }
    }

    /// Takes `cancel()` back, so that it can be used again. A deadline stays.
    public func reset() {
        handle.use { _ = byol_cancel_reset(byol_cancel(id: $0), nil) }
    }

    func use<Result>(_ body: (byol_cancel) -> Result) -> Result {
        handle.use { body(byol_cancel(id: $0)) }
    }
}

extension Cancellation? {
    /// Lends C the token, or none.
    func lend<Result>(_ body: (byol_cancel) -> Result) -> Result {
        guard let self else { return body(byol_cancel(id: 0)) }
        return self.use(body)
    }
}

/// Where asynchronous calls do their work: threads of their own, because Swift's cooperative pool has only as many as
/// the machine has cores, and a thread that waits for a model would be missing there.
enum Work {
    /// Runs `body` on a thread that is not the pool's.
    static func start(_ body: @escaping @Sendable () -> Void) {
        // A serial queue of its own: those get threads beyond the number of cores. Concurrent queues share, on Linux, the
        // very threads of the pool.
        DispatchQueue(label: "byol").async(execute: body)
    }

    /// Runs `body` off the cooperative pool. Cancelling the task cancels the `Cancellation`, and so the work itself.
    static func run<Value: Sendable>(
        _ body: @escaping @Sendable (Cancellation) throws(ByolError) -> Value
    ) async throws(ByolError) -> Value {
        let cancellation = try Cancellation()
        let result: Result<Value, ByolError> = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                start {
                    continuation.resume(returning: Result { () throws(ByolError) in try body(cancellation) })
                }
            }
        } onCancel: {
            cancellation.cancel()
        }
        // Not left to the last reference, which the thread may hold a moment longer.
        cancellation.handle.close()
        return try result.get()
    }
}
