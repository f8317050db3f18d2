import Foundation

/// What encoders, heads, runtimes and cancellations share: a number of libbyol's, closed once, by `close` or at the end
/// of its owner's life. Calls that run while it is closed finish; libbyol refuses the number afterwards.
final class Handle: Sendable {
    private let lock = NSLock()
    // Guarded by `lock`; 0 when closed.
    nonisolated(unsafe) private var id: UInt64
    private let release: @Sendable (UInt64) -> Void

    init(_ id: UInt64, release: @escaping @Sendable (UInt64) -> Void) {
        (self.id, self.release) = (id, release)
    }

    deinit { close() }

    func close() {
        let id = lock.withLock {
            defer { self.id = 0 }
            return self.id
        }
        if id != 0 { release(id) }
    }

    /// Lends the number to a call, and lives at least as long as it.
    func use<Result>(_ body: (UInt64) -> Result) -> Result {
        withExtendedLifetime(self) { body(lock.withLock { id }) }
    }
}
