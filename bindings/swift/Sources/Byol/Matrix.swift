/// Rows of values, one after the other: features, probabilities or scores. A collection of its rows.
public struct Matrix: Sendable, Equatable, RandomAccessCollection {
    /// Row i begins at `i * stride`.
    public let values: [Float]
    /// Number of rows.
    public let rows: Int
    /// Values of a row.
    public let columns: Int
    /// Distance from one row to the next.
    public let stride: Int

    /// Rows in an array, which is not copied. Throws `.shape` where the array is too short for them.
    public init(_ values: [Float], rows: Int, columns: Int, stride: Int? = nil) throws(ByolError) {
        let distance = stride ?? columns
        try Self.check(rows, columns, distance, in: values.count)
        self.init(values, rows, columns, distance)
    }

    /// Rows of equal length. Throws `.shape` where they are not.
    public init(rows: some Collection<some Collection<Float>>) throws(ByolError) {
        let columns = rows.first?.count ?? 0
        if let bad = rows.enumerated().first(where: { $0.element.count != columns }) {
            throw ByolError(.shape, "row \(bad.offset) has \(bad.element.count) values, row 0 has \(columns)", item: bad.offset)
        }
        self.init(rows.flatMap { $0 }, rows.count, columns, columns)
    }

    init(_ values: [Float], _ rows: Int, _ columns: Int, _ stride: Int) {
        (self.values, self.rows, self.columns, self.stride) = (values, rows, columns, stride)
    }

    /// Makes sure that C finds in memory what the sizes promise.
    static func check(_ rows: Int, _ columns: Int, _ stride: Int, in length: Int) throws(ByolError) {
        guard rows >= 0, columns >= 0, stride >= columns else {
            throw ByolError(.shape, "\(rows) rows of \(columns) columns, \(stride) apart")
        }
        if rows == 0 { return }
        let (start, tooFar) = (rows - 1).multipliedReportingOverflow(by: stride)
        let (end, tooLong) = start.addingReportingOverflow(columns)
        if tooFar || tooLong || end > length {
            throw ByolError(.shape, "\(length) values are too few for \(rows) rows of \(columns) columns, \(stride) apart")
        }
    }

    public var startIndex: Int { 0 }
    public var endIndex: Int { rows }

    /// Row i, without a copy. Like all subscripts, it traps where there is no such row.
    public subscript(row: Int) -> ArraySlice<Float> {
        precondition(indices.contains(row), "no such row")
        return values[row * stride..<row * stride + columns]
    }

    /// The value of a row and a column.
    public subscript(row: Int, column: Int) -> Float {
        precondition(indices.contains(row) && column >= 0 && column < columns, "no such value")
        return values[row * stride + column]
    }
}
