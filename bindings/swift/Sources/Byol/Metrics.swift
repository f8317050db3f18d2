import CByol

/// What a labelled set says about a head.
public struct Metrics: Sendable, Equatable {
    /// How well one class is told from the others. A ratio of nothing by nothing is 0.
    public struct OfClass: Sendable, Hashable {
        /// Share of the examples predicted as the class that are of it.
        public let precision: Double
        /// Share of the class' examples that are predicted as it.
        public let recall: Double
        /// Harmonic mean of both.
        public let f1: Double
    }

    /// Number of examples.
    public let examples: Int
    /// Share of examples whose most probable class is theirs.
    public let top1: Double
    /// Share of examples whose class is among the five most probable.
    public let top5: Double
    /// Mean share over the classes that occur.
    public let balanced: Double
    /// Mean of minus the natural logarithm of the probability of the right class.
    public let logLoss: Double
    /// Expected calibration error, over 15 equal bins of confidence.
    public let calibrationError: Double
    /// 95% interval of `top1` (Wilson).
    public let top1Interval: ClosedRange<Double>
    /// How well each class is told from the others.
    public let perClass: [OfClass]
    /// Counts examples as `confusion[class][predicted class]`.
    public let confusion: [[Int]]

    init(_ metrics: byol_metrics, _ perClass: [Double], _ confusion: [UInt64]) {
        examples = Int(clamping: metrics.examples)
        (top1, top5, balanced) = (metrics.top1, metrics.top5, metrics.balanced)
        (logLoss, calibrationError) = (metrics.log_loss, metrics.calibration_error)
        top1Interval = min(metrics.top1_low, metrics.top1_high)...metrics.top1_high
        let classes = perClass.count / 3
        self.perClass = (0..<classes).map {
            OfClass(precision: perClass[3 * $0], recall: perClass[3 * $0 + 1], f1: perClass[3 * $0 + 2])
        }
        self.confusion = (0..<classes).map { row in
            confusion[row * classes..<(row + 1) * classes].map(Int.init(clamping:))
        }
    }
}

/// Nearest neighbours by cosine: a look at features that needs no training.
public enum Neighbours {
    /// Predicts the class of each row of `queries` by its `k` nearest neighbours among `train`. A temperature of 0 is a
    /// majority vote; above 0, a neighbour of cosine s has exp(s / temperature) votes.
    public static func predict(
        _ queries: Matrix, among train: Matrix, labels: [Int], k: Int, temperature: Float = 0
    ) throws(ByolError) -> [Int] {
        try checkCompatible()
        let labels = try checked(labels, rows: train.rows)
        guard queries.columns == train.columns else {
            throw ByolError(.shape, "queries have \(queries.columns) columns, train has \(train.columns)")
        }
        let neighbours = try unsigned(k, "k")
        var predicted = [UInt32](repeating: 0, count: queries.rows)
        try attempt {
            byol_knn_predict(
                train.values, train.rows, train.stride, labels, queries.values, queries.rows, queries.stride, train.columns,
                neighbours, temperature, &predicted, $0)
        }
        return predicted.map(Int.init)
    }
}
