import CByol
import Foundation

/// What a trainer holds.
public struct TrainerInfo: Sendable, Hashable {
    /// Number of examples.
    public let examples: Int
    /// Number of classes.
    public let classes: Int
    /// Features of an example.
    public let dimension: Int
    /// Whether `refit` has a start.
    public let isFitted: Bool
    /// SHA-256 of the file of the encoder whose features it takes; empty if it is not known.
    public let encoderSHA256: String
}

/// A class of a trainer.
public struct TrainerClass: Sendable, Hashable {
    /// Its name.
    public let name: String
    /// Number of its examples.
    public let examples: Int
}

/// Examples that were added from pictures of which some may be bad.
public struct Addition: Sendable, Hashable {
    /// The number of each example; nil for a bad picture, which is left out.
    public let examples: [UInt64?]
    /// How each picture went: `.ok`, or why it is bad.
    public let statuses: [ByolError.Code]
}

/// Holds examples that come and go, and fits heads to them. It holds features, not pictures. What it fits is the optimum of
/// the examples that are there, in whatever order they came. Any number of threads and tasks may share it; examples may
/// be added while a fit runs, which goes on without them. It is closed at the end of its life.
public final class Trainer: Sendable {
    private let handle: Handle

    /// A trainer without examples for features of an encoder; its heads refuse other encoders.
    public init(of encoder: ImageEncoder) throws(ByolError) {
        var trainer = byol_trainer()
        try attempt { error in encoder.use { byol_trainer_create($0.orClosed, 0, &trainer, error) } }
        handle = Handle(trainer.id) { byol_trainer_close(byol_trainer(id: $0), nil) }
    }

    /// A trainer for features of so many numbers each, whose encoder is not known.
    public init(dimension: Int) throws(ByolError) {
        try checkCompatible()
        let dimension = try unsigned(dimension, "dimension")
        var trainer = byol_trainer()
        try attempt { byol_trainer_create(byol_encoder(id: 0), dimension, &trainer, $0) }
        handle = Handle(trainer.id) { byol_trainer_close(byol_trainer(id: $0), nil) }
    }

    /// Closes the trainer before its time. Calls that use it finish, later ones throw `.closed`. May be called again.
    public func close() { handle.close() }

    private func use<Result>(_ body: (byol_trainer) -> Result) -> Result {
        handle.use { body(byol_trainer(id: $0)) }
    }

    /// What the trainer holds.
    public func info() throws(ByolError) -> TrainerInfo {
        var info = byol_trainer_info.started()
        try attempt { error in use { byol_trainer_get_info($0, &info, error) } }
        return TrainerInfo(
            examples: Int(clamping: info.examples), classes: Int(info.classes), dimension: Int(info.dimension),
            isFitted: info.is_fitted != 0, encoderSHA256: string(info.encoder_sha256))
    }

    // MARK: Classes

    /// Adds a class without examples and gives its number, counted from 0; the number of the class of that name, where
    /// there is one.
    @discardableResult
    public func addClass(_ name: String) throws(ByolError) -> Int {
        try checkNoNUL(name, "the name")
        var label: UInt32 = 0
        try attempt { error in use { byol_trainer_add_class($0, name, &label, error) } }
        return Int(label)
    }

    /// A class, counted from 0, or `.notFound`.
    public func classInfo(_ label: Int) throws(ByolError) -> TrainerClass {
        let label = try unsigned(label, "the class")
        var examples: UInt64 = 0
        let name = try readText { buffer, capacity, needed, error in
            use { byol_trainer_get_class($0, label, buffer, capacity, needed, &examples, error) }
        }
        return TrainerClass(name: name, examples: Int(clamping: examples))
    }

    /// Removes a class with its examples. The numbers of the classes behind it become smaller by one.
    public func removeClass(_ label: Int) throws(ByolError) {
        let label = try unsigned(label, "the class")
        try attempt { error in use { byol_trainer_remove_class($0, label, error) } }
    }

    // MARK: Examples

    /// Adds rows of features with the numbers of their classes, and gives the examples' own numbers, which are above 0 and
    /// never used again. All are added or none.
    @discardableResult
    public func add(_ features: Matrix, labels: [Int]) throws(ByolError) -> [UInt64] {
        let labels = try checked(labels, rows: features.rows)
        var examples = [UInt64](repeating: 0, count: features.rows)
        try attempt { error in
            use {
                byol_trainer_add(
                    $0, features.values, features.rows, features.columns, features.stride, labels, &examples, error)
            }
        }
        return examples
    }

    /// Adds pictures, by the encoder whose features the trainer takes. The first bad one fails the call, and none is
    /// added then.
    @discardableResult
    public func add(
        _ pictures: [Picture], labels: [Int], with encoder: ImageEncoder, cancellation: Cancellation? = nil
    ) throws(ByolError) -> [UInt64] {
        // Before the work, which is long.
        let numbers = try checked(labels, rows: pictures.count)
        guard pictures.count <= itemsPerCall else {
            try check(encoder)
            return try add(encoder.extract(pictures, cancellation: cancellation), labels: labels)
        }
        return try add(pictures.count, numbers, nil) { labels, examples, statuses, error in
            withAllBytes(pictures.indices, access: { pictures[$0].withBytes($1) }) { buffers in
                let images = zip(pictures, buffers).map { $0.c($1) }
                return self.use { trainer in
                    encoder.use { encoder in
                        cancellation.lend {
                            byol_trainer_add_images(
                                trainer, encoder, images, images.count, labels, examples, statuses, $0, error)
                        }
                    }
                }
            }
        }
    }

    /// Adds pictures off the cooperative pool; stops soon after the task is cancelled.
    @discardableResult
    public func add(_ pictures: [Picture], labels: [Int], with encoder: ImageEncoder) async throws(ByolError) -> [UInt64] {
        try await Work.run { (cancellation) throws(ByolError) in
            try self.add(pictures, labels: labels, with: encoder, cancellation: cancellation)
        }
    }

    /// Adds encoded pictures, each the bytes of one file. The first bad one fails the call, and none is added then.
    @discardableResult
    public func add(
        encoded files: [some ContiguousBytes], labels: [Int], with encoder: ImageEncoder, cancellation: Cancellation? = nil
    ) throws(ByolError) -> [UInt64] {
        let numbers = try checked(labels, rows: files.count)
        guard files.count <= itemsPerCall else {
            try check(encoder)
            return try add(encoder.extract(encoded: files, cancellation: cancellation), labels: labels)
        }
        return try add(files.count, numbers, nil) { labels, examples, statuses, error in
            withAllBytes(files, access: { $0.withUnsafeBytes($1) }) { buffers in
                let data = buffers.map { $0.assumingMemoryBound(to: UInt8.self).baseAddress }
                let lengths = buffers.map(\.count)
                return self.use { trainer in
                    encoder.use { encoder in
                        cancellation.lend {
                            byol_trainer_add_encoded(
                                trainer, encoder, data, lengths, data.count, labels, examples, statuses, $0, error)
                        }
                    }
                }
            }
        }
    }

    /// Adds picture files. The first bad one fails the call, and none is added then.
    @discardableResult
    public func add(
        files: [URL], labels: [Int], with encoder: ImageEncoder, cancellation: Cancellation? = nil
    ) throws(ByolError) -> [UInt64] {
        try add(paths: files.map(\.path), labels, encoder, nil, cancellation)
    }

    /// Adds picture files off the cooperative pool; stops soon after the task is cancelled.
    @discardableResult
    public func add(files: [URL], labels: [Int], with encoder: ImageEncoder) async throws(ByolError) -> [UInt64] {
        try await Work.run { (cancellation) throws(ByolError) in
            try self.add(files: files, labels: labels, with: encoder, cancellation: cancellation)
        }
    }

    /// Adds picture files of which some may be bad: those are left out, the others go on.
    public func addEach(
        files: [URL], labels: [Int], with encoder: ImageEncoder, cancellation: Cancellation? = nil
    ) throws(ByolError) -> Addition {
        var statuses = [byol_status](repeating: BYOL_OK, count: files.count)
        let result = statuses.withUnsafeMutableBufferPointer { statuses in
            Result { () throws(ByolError) in
                try add(paths: files.map(\.path), labels, encoder, statuses.baseAddress, cancellation)
            }
        }
        let examples = try result.get()
        return Addition(
            examples: examples.map { $0 == 0 ? nil : $0 }, statuses: statuses.map(ByolError.Code.init(rawValue:)))
    }

    /// Refuses another encoder than the one whose features the trainer takes, by adding nothing with it.
    private func check(_ encoder: ImageEncoder) throws(ByolError) {
        _ = try add(paths: [], [], encoder, nil, nil)
    }

    private func add(
        paths: [String], _ labels: [Int], _ encoder: ImageEncoder, _ statuses: UnsafeMutablePointer<byol_status>?,
        _ cancellation: Cancellation?
    ) throws(ByolError) -> [UInt64] {
        for (index, path) in paths.enumerated() { try checkNoNUL(path, "path \(index)", item: index) }
        return try add(paths.count, checked(labels, rows: paths.count), statuses) { labels, examples, statuses, error in
            withTexts(paths) { names in
                self.use { trainer in
                    encoder.use { encoder in
                        cancellation.lend {
                            byol_trainer_add_files(
                                trainer, encoder, names, paths.count, labels, examples, statuses, $0, error)
                        }
                    }
                }
            }
        }
    }

    private func add(
        _ count: Int, _ labels: [UInt32], _ statuses: UnsafeMutablePointer<byol_status>?,
        _ run: (
            UnsafePointer<UInt32>?, UnsafeMutablePointer<UInt64>?, UnsafeMutablePointer<byol_status>?,
            UnsafeMutablePointer<byol_error>
        ) -> byol_status
    ) throws(ByolError) -> [UInt64] {
        var examples = [UInt64](repeating: 0, count: count)
        try attempt { error in
            labels.withUnsafeBufferPointer { labels in
                examples.withUnsafeMutableBufferPointer { run(labels.baseAddress, $0.baseAddress, statuses, error) }
            }
        }
        return examples
    }

    /// Adds all rows of a container with labels; classes are matched by name, and new ones added. Gives the number of the
    /// first; the others follow it.
    @discardableResult
    public func add(_ features: Features) throws(ByolError) -> UInt64 {
        var first: UInt64 = 0
        try attempt { error in
            use { trainer in features.use { byol_trainer_add_features(trainer, $0, &first, error) } }
        }
        return first
    }

    /// Copies all examples into a new container, in the order of their numbers, with labels and classes.
    public func features() throws(ByolError) -> Features {
        try Features { (features, error) in use { byol_trainer_get_features($0, features, error) } }
    }

    /// Removes examples by their numbers, all or none.
    public func remove(_ examples: [UInt64]) throws(ByolError) {
        try attempt { error in use { byol_trainer_remove($0, examples, examples.count, error) } }
    }

    /// Gives an example to another class.
    public func relabel(_ example: UInt64, to label: Int) throws(ByolError) {
        let label = try unsigned(label, "the class")
        try attempt { error in use { byol_trainer_relabel($0, example, label, error) } }
    }

    // MARK: Fits

    /// Fits a head to all examples. `sampleWeights` of the options are not used. `progress` hears from the fit after every
    /// iteration, on this thread; where it returns false, the fit throws `.cancelled`.
    public func fit(
        options: FitOptions = FitOptions(), cancellation: Cancellation? = nil, progress: ((FitProgress) -> Bool)? = nil
    ) throws(ByolError) -> (head: Head, report: FitReport) {
        try fit({ byol_trainer_fit($0, $1, $2, $3, $4, $5, $6, $7) }, options, cancellation, progress)
    }

    /// Fits a head to all examples off the cooperative pool; stops soon after the task is cancelled.
    public func fit(options: FitOptions = FitOptions()) async throws(ByolError) -> (head: Head, report: FitReport) {
        try await Work.run { (cancellation) throws(ByolError) in
            try self.fit(options: options, cancellation: cancellation)
        }
    }

    /// Fits a head to all examples, as `fit` and to the same optimum, starting at the last one: after examples or classes
    /// came or went, it takes a fraction of the time.
    public func refit(
        options: FitOptions = FitOptions(), cancellation: Cancellation? = nil, progress: ((FitProgress) -> Bool)? = nil
    ) throws(ByolError) -> (head: Head, report: FitReport) {
        try fit({ byol_trainer_refit($0, $1, $2, $3, $4, $5, $6, $7) }, options, cancellation, progress)
    }

    /// Fits a head again off the cooperative pool; stops soon after the task is cancelled.
    public func refit(options: FitOptions = FitOptions()) async throws(ByolError) -> (head: Head, report: FitReport) {
        try await Work.run { (cancellation) throws(ByolError) in
            try self.refit(options: options, cancellation: cancellation)
        }
    }

    /// Fits a head to all examples off the cooperative pool, as `Head.fitting`, and tells how far it is; with `again`, as
    /// `refit`.
    public func fitting(options: FitOptions = FitOptions(), again: Bool = false) -> FitEvents {
        FitEvents { (cancellation, progress) throws(ByolError) in
            try again
                ? self.refit(options: options, cancellation: cancellation, progress: progress)
                : self.fit(options: options, cancellation: cancellation, progress: progress)
        }
    }

    private typealias Fit = (
        byol_trainer, UnsafePointer<byol_fit_options>?, byol_fit_callback?, UnsafeMutableRawPointer?, byol_cancel,
        UnsafeMutablePointer<byol_head>?, UnsafeMutablePointer<byol_fit_report>?, UnsafeMutablePointer<byol_error>?
    ) -> byol_status

    private func fit(
        _ fit: Fit, _ options: FitOptions, _ cancellation: Cancellation?, _ progress: ((FitProgress) -> Bool)?
    ) throws(ByolError) -> (head: Head, report: FitReport) {
        var o = try options.c()
        var head = byol_head()
        var report = byol_fit_report.started()
        try attempt { error in
            withArray(options.classWeights) { classWeights in
                o.class_weights = classWeights
                return cancellation.lend { token in
                    lend(progress) { user in
                        use { fit($0, &o, user == nil ? nil : heard, user, token, &head, &report, error) }
                    }
                }
            }
        }
        return (try Head(head), FitReport(report))
    }

    /// Tries penalties, judges each on examples that are held out, and fits a head with the best to all examples: the
    /// highest accuracy, then the lowest loss, then the strongest penalty, which the report tells.
    ///
    /// `progress` hears from the search after every penalty, on this thread; where it returns false, the search throws
    /// `.cancelled`.
    public func search(
        _ search: SearchOptions = SearchOptions(), options: FitOptions = FitOptions(), cancellation: Cancellation? = nil,
        progress: ((Penalty) -> Bool)? = nil
    ) throws(ByolError) -> SearchResult {
        var o = try options.c()
        var s = try search.c()
        let most = search.penalties?.count ?? Int(BYOL_SEARCH_PENALTIES)
        var tried = [Double](repeating: 0, count: 4 * most)
        var count = 0
        var head = byol_head()
        var report = byol_fit_report.started()
        try attempt { error in
            withArray(options.classWeights) { classWeights in
                withArray(search.penalties) { penalties in
                    o.class_weights = classWeights
                    (s.penalties, s.penalties_len) = (penalties, search.penalties?.count ?? 0)
                    return cancellation.lend { token in
                        lend(progress) { user in
                            use {
                                byol_trainer_search(
                                    $0, &o, &s, user == nil ? nil : heardOfSearch, user, token, &head, &report, &tried,
                                    tried.count, &count, error)
                            }
                        }
                    }
                }
            }
        }
        return SearchResult(
            head: try Head(head), report: FitReport(report),
            tried: (0..<count).map {
                Penalty(
                    l2: tried[4 * $0], accuracy: tried[4 * $0 + 1], deviation: tried[4 * $0 + 2], logLoss: tried[4 * $0 + 3])
            })
    }

    /// Searches off the cooperative pool; stops soon after the task is cancelled.
    public func search(
        _ search: SearchOptions = SearchOptions(), options: FitOptions = FitOptions()
    ) async throws(ByolError) -> SearchResult {
        try await Work.run { (cancellation) throws(ByolError) in
            try self.search(search, options: options, cancellation: cancellation)
        }
    }

    /// Makes a head without fitting: every class's weights are the mean of its examples, each scaled to length 1, scaled to
    /// length `scale` (10 to 30 is usual). One example of each class is enough.
    public func imprint(scale: Float) throws(ByolError) -> Head {
        var head = byol_head()
        try attempt { error in use { byol_trainer_imprint($0, scale, &head, error) } }
        return try Head(head)
    }
}

/// How to search for a penalty. What is not set is as libbyol has it.
public struct SearchOptions: Sendable {
    /// Penalties to try, as `FitOptions.l2`; nil for thirteen from 1 to 1e-6.
    public var penalties: [Double]?
    /// 2 or more judges by cross-validation in so many folds: longer, and surer with few examples. 0 judges on a share of
    /// the examples that is held out.
    public var folds: Int
    /// That share of every class, above 0 and at most 0.5.
    public var heldOut: Double
    /// Ends a search without folds once the loss has not fallen for so many penalties; 0 tries all.
    public var patience: Int
    /// Decides which examples are held out.
    public var seed: UInt64

    /// The defaults.
    public init() {
        var options = byol_search_options()
        byol_search_options_init(&options, MemoryLayout<byol_search_options>.size)
        (folds, patience, seed) = (Int(options.folds), Int(options.patience), options.seed)
        heldOut = options.held_out
    }

    func c() throws(ByolError) -> byol_search_options {
        var options = byol_search_options.started()
        options.folds = try unsigned(folds, "folds")
        options.patience = try unsigned(patience, "patience")
        (options.held_out, options.seed) = (heldOut, seed)
        return options
    }
}

/// What became of one penalty of a search.
public struct Penalty: Sendable, Hashable {
    /// The penalty.
    public let l2: Double
    /// Share of right examples among those held out.
    public let accuracy: Double
    /// Standard deviation of `accuracy` over the folds; 0 without folds.
    public let deviation: Double
    /// Mean cross-entropy of those held out.
    public let logLoss: Double
}

/// What a search found.
public struct SearchResult: Sendable {
    /// Fitted to all examples with the best penalty.
    public let head: Head
    /// How that fit went.
    public let report: FitReport
    /// The penalties that were tried, strongest first.
    public let tried: [Penalty]
}

private func heardOfSearch(user: UnsafeMutableRawPointer?, l2: Double, accuracy: Double, logLoss: Double) -> Int32 {
    Listener.hear(user, Penalty(l2: l2, accuracy: accuracy, deviation: 0, logLoss: logLoss))
}
