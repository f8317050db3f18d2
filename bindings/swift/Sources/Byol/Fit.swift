import CByol
import Foundation

/// How to fit a head. What is not set is as libbyol has it.
public struct FitOptions: Sendable {
    /// Penalty per example on the squared weights, at least 0: the objective is the mean cross-entropy plus `l2 / 2`
    /// times the sum of the squared weights. scikit-learn's C is `1 / (l2 * rows)`.
    public var l2: Double
    /// Certified relative distance from the optimum to stop at.
    public var tolerance: Double
    /// Most iterations. Reaching them is no error: `FitReport.converged` is then false.
    public var maxIterations: Int
    /// Threads, 0 for as many as the process may use. The head does not depend on it, bit for bit.
    public var threads: Int
    /// Whether to penalise as if every column had standard deviation 1. A head always takes features as they are.
    public var standardize: Bool
    /// One factor for each class for the weight of its examples; nil for none.
    public var classWeights: [Float]?
    /// One weight for each row, at least 0; nil for none.
    public var sampleWeights: [Float]?

    /// The defaults.
    public init() {
        var options = byol_fit_options()
        byol_fit_options_init(&options, MemoryLayout<byol_fit_options>.size)
        (l2, tolerance, maxIterations) = (options.l2, options.tolerance, Int(options.max_iterations))
        (threads, standardize) = (Int(options.threads), options.standardize != 0)
    }

    func c() throws(ByolError) -> byol_fit_options {
        var options = byol_fit_options.started()
        (options.l2, options.tolerance) = (l2, tolerance)
        options.max_iterations = try unsigned(maxIterations, "maxIterations")
        options.threads = try unsigned(threads, "threads")
        options.standardize = standardize ? 1 : 0
        // To libbyol, which counts the classes, no number of weights would be an unknown one.
        if let classWeights, classWeights.isEmpty { throw ByolError(.shape, "there are no class weights") }
        options.class_weights_len = classWeights?.count ?? 0
        return options
    }
}

/// How far a fit has come.
public struct FitProgress: Sendable, Hashable {
    /// Iterations done.
    public let iteration: Int
    /// Value of the objective now.
    public let objective: Double
    /// Proven relative distance from the optimum, infinite while nothing is proven.
    public let gap: Double
}

/// How a fit went.
public struct FitReport: Sendable, Hashable {
    /// Whether the tolerance was met.
    public let converged: Bool
    /// Iterations done.
    public let iterations: Int
    /// Passes over all rows.
    public let passes: Int
    /// Value of the objective at the end.
    public let objective: Double
    /// Proven: (objective - optimum) / optimum is at most this. -1 where nothing can be proven.
    public let gap: Double
    /// The penalty.
    public let l2: Double
    /// Wall time.
    public let duration: Duration

    init(_ report: byol_fit_report) {
        converged = report.converged != 0
        (iterations, passes) = (Int(clamping: report.iterations), Int(clamping: report.passes))
        (objective, gap, l2, duration) = (report.objective, report.gap, report.l2, .seconds(report.seconds))
    }
}

/// Examples to fit a head to.
public struct Examples: Sendable {
    /// Features, a row for each example.
    public var features: Matrix
    /// The class of each row, counted from 0.
    public var labels: [Int]
    /// The names of the classes; nil calls them "0", "1", ..., and there are as many as the largest label asks for.
    public var classNames: [String]?
    /// The encoder whose features these are, so that the head will refuse others; nil leaves that open.
    public var encoder: ImageEncoder?

    /// Examples of all their parts.
    public init(_ features: Matrix, labels: [Int], classNames: [String]? = nil, encoder: ImageEncoder? = nil) {
        (self.features, self.labels, self.classNames, self.encoder) = (features, labels, classNames, encoder)
    }
}

extension Head {
    /// Fits a head to examples. The same input gives the same head, whatever the threads.
    ///
    /// `progress` hears from the fit after every iteration, on this thread; where it returns false, the fit throws
    /// `.cancelled`.
    public static func fit(
        _ examples: Examples, options: FitOptions = FitOptions(), cancellation: Cancellation? = nil,
        progress: ((FitProgress) -> Bool)? = nil
    ) throws(ByolError) -> (head: Head, report: FitReport) {
        try fit(from: nil, examples, options, cancellation, progress)
    }

    /// Fits a head again as `fit` does, to the same optimum, starting at this one: after examples changed, or with another
    /// penalty, it takes a fraction of the time. The examples are all there are; classes are matched by name.
    public func refit(
        _ examples: Examples, options: FitOptions = FitOptions(), cancellation: Cancellation? = nil,
        progress: ((FitProgress) -> Bool)? = nil
    ) throws(ByolError) -> (head: Head, report: FitReport) {
        try Self.fit(from: self, examples, options, cancellation, progress)
    }

    /// Fits a head again, off the cooperative pool; stops soon after the task is cancelled.
    public func refit(
        _ examples: Examples, options: FitOptions = FitOptions()
    ) async throws(ByolError) -> (head: Head, report: FitReport) {
        try await Work.run { (cancellation) throws(ByolError) in
            try self.refit(examples, options: options, cancellation: cancellation)
        }
    }

    private static func fit(
        from start: Head?, _ examples: Examples, _ options: FitOptions, _ cancellation: Cancellation?,
        _ progress: ((FitProgress) -> Bool)?
    ) throws(ByolError) -> (head: Head, report: FitReport) {
        try checkCompatible()
        let features = examples.features
        let labels = try checked(examples.labels, rows: features.rows)
        for (label, name) in (examples.classNames ?? []).enumerated() {
            try checkNoNUL(name, "the name of class \(label)", item: label)
        }
        let classes = examples.classNames?.count ?? labels.max().map { Int($0) + 1 } ?? 0
        if let weights = options.sampleWeights, weights.count != features.rows {
            throw ByolError(.shape, "\(weights.count) sample weights for \(features.rows) rows")
        }
        let count = try unsigned(classes, "the number of classes")
        var o = try options.c()
        var head = byol_head()
        var report = byol_fit_report.started()
        try attempt { error in
            withTexts(examples.classNames ?? []) { names in
                withArray(options.classWeights) { classWeights in
                    withArray(options.sampleWeights) { sampleWeights in
                        (o.class_weights, o.sample_weights) = (classWeights, sampleWeights)
                        return cancellation.lend { token in
                            lend(examples.encoder) { encoder in
                                lend(progress) { user in
                                    guard let start else {
                                        return byol_head_fit(
                                            features.values, features.rows, features.columns, features.stride, labels, names,
                                            count, encoder, &o, user == nil ? nil : heard, user, token, &head, &report,
                                            error)
                                    }
                                    return start.use {
                                        byol_head_refit(
                                            $0, features.values, features.rows, features.columns, features.stride, labels,
                                            names, count, encoder, &o, user == nil ? nil : heard, user, token, &head,
                                            &report, error)
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        return (try Head(head), FitReport(report))
    }

    /// Fits a head to examples off the cooperative pool; stops soon after the task is cancelled.
    public static func fit(
        _ examples: Examples, options: FitOptions = FitOptions()
    ) async throws(ByolError) -> (head: Head, report: FitReport) {
        try await Work.run { (cancellation) throws(ByolError) in
            try fit(examples, options: options, cancellation: cancellation)
        }
    }

    /// Fits a head to examples off the cooperative pool, and tells how far it is:
    ///
    ///     for try await event in Head.fitting(examples) {
    ///         switch event {
    ///         case .progress(let progress): print(progress.iteration)
    ///         case .finished(let head, let report): ...
    ///         }
    ///     }
    ///
    /// The fit begins with the iteration, and stops when the loop is left or its task cancelled.
    public static func fitting(_ examples: Examples, options: FitOptions = FitOptions()) -> FitEvents {
        FitEvents { (cancellation, progress) throws(ByolError) in
            try fit(examples, options: options, cancellation: cancellation, progress: progress)
        }
    }
}

/// What a fit tells.
public enum FitEvent: Sendable {
    /// How far it is, after every iteration.
    case progress(FitProgress)
    /// The head, at the end.
    case finished(Head, FitReport)
}

/// What a fit tells while it runs: progress after every iteration, the head at last.
public struct FitEvents: AsyncSequence, Sendable {
    public typealias Element = FitEvent

    /// Fits on the calling thread.
    typealias Fit = @Sendable (Cancellation, @escaping (FitProgress) -> Bool) throws(ByolError) -> (head: Head, report: FitReport)

    let fit: Fit

    init(_ fit: @escaping Fit) { self.fit = fit }

    /// Begins the fit.
    public func makeAsyncIterator() -> AsyncIterator {
        let (stream, continuation) = AsyncThrowingStream<FitEvent, any Error>.makeStream()
        let fit = fit
        do throws(ByolError) {
            let cancellation = try Cancellation()
            continuation.onTermination = { _ in cancellation.cancel() }
            Work.start {
                do throws(ByolError) {
                    let (head, report) = try fit(cancellation) {
                        continuation.yield(.progress($0))
                        return true
                    }
                    continuation.yield(.finished(head, report))
                    continuation.finish()
                } catch {
                    continuation.finish(throwing: error)
                }
            }
        } catch {
            continuation.finish(throwing: error)
        }
        return AsyncIterator(events: stream.makeAsyncIterator())
    }

    /// Waits for what the fit tells.
    public struct AsyncIterator: AsyncIteratorProtocol {
        var events: AsyncThrowingStream<FitEvent, any Error>.AsyncIterator
        var isFinished = false

        /// The next event; nil after the head. Throws `ByolError`.
        public mutating func next() async throws -> FitEvent? {
            guard let event = try await events.next() else {
                if isFinished { return nil }
                // The stream ends without a word when its task is cancelled.
                isFinished = true
                throw ByolError(.cancelled, "the task was cancelled before the fit was done")
            }
            if case .finished = event { isFinished = true }
            return event
        }
    }
}

/// Lends C an encoder, or none.
func lend<Result>(_ encoder: ImageEncoder?, _ body: (byol_encoder) -> Result) -> Result {
    guard let encoder else { return body(byol_encoder(id: 0)) }
    return encoder.use { body($0.orClosed) }
}

/// What one fit or search lends to libbyol.
final class Listener<Progress> {
    private let progress: (Progress) -> Bool

    init(_ progress: @escaping (Progress) -> Bool) { self.progress = progress }

    /// Tells the listener that C knows as `user`, and says whether to stop.
    static func hear(_ user: UnsafeMutableRawPointer?, _ progress: Progress) -> Int32 {
        guard let user else { return 0 }
        return Unmanaged<Listener>.fromOpaque(user).takeUnretainedValue().progress(progress) ? 0 : 1
    }
}

/// Lends C what hears of a fit or search, or NULL for nobody.
func lend<Progress, Result>(
    _ progress: ((Progress) -> Bool)?, _ body: (UnsafeMutableRawPointer?) -> Result
) -> Result {
    guard let progress else { return body(nil) }
    let listener = Listener(progress)
    return withExtendedLifetime(listener) { body(Unmanaged.passUnretained(listener).toOpaque()) }
}

func heard(user: UnsafeMutableRawPointer?, iteration: UInt64, objective: Double, gap: Double) -> Int32 {
    Listener.hear(user, FitProgress(iteration: Int(clamping: iteration), objective: objective, gap: gap))
}
