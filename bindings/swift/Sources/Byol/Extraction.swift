import CByol
import Foundation

/// Features of pictures of which some may be bad.
public struct Extraction: Sendable, Equatable {
    /// A row for each picture; zeros for a bad one.
    public let features: Matrix
    /// How each picture went: `.ok`, or why it is bad. The log hears more.
    public let statuses: [ByolError.Code]
}

/// Where features and statuses go: memory that C writes.
private struct Destination {
    let features: UnsafeMutableBufferPointer<Float>
    let stride: Int
    let statuses: UnsafeMutablePointer<byol_status>?

    /// C's arguments for the pictures from `start` on.
    func from(_ start: Int) -> (UnsafeMutablePointer<Float>?, Int, UnsafeMutablePointer<byol_status>?) {
        let offset = min(start * stride, features.count)
        return (features.baseAddress.map { $0 + offset }, features.count - offset, statuses.map { $0 + start })
    }
}

/// One kind of pictures: how many, and how to extract all of them.
private struct Job {
    let count: Int
    let run: (Destination) throws(ByolError) -> Void
}

extension ImageEncoder {
    private func job(_ pictures: [Picture], _ cancellation: Cancellation?) -> Job {
        Job(count: pictures.count) { (to) throws(ByolError) in
            try Self.inParts(pictures) { (start, part) throws(ByolError) in
                let (features, length, statuses) = to.from(start)
                try attempt(firstItem: start) { error in
                    withAllBytes(part.indices, access: { part[$0].withBytes($1) }) { buffers in
                        let images = zip(part, buffers).map { $0.c($1) }
                        return self.use { encoder in
                            cancellation.lend {
                                byol_extract(encoder, images, images.count, nil, features, to.stride, length, statuses, $0, error)
                            }
                        }
                    }
                }
            }
        }
    }

    private func job(encoded files: [some ContiguousBytes], _ cancellation: Cancellation?) -> Job {
        Job(count: files.count) { (to) throws(ByolError) in
            try Self.inParts(files) { (start, part) throws(ByolError) in
                let (features, length, statuses) = to.from(start)
                try attempt(firstItem: start) { error in
                    withAllBytes(part, access: { $0.withUnsafeBytes($1) }) { buffers in
                        let data = buffers.map { $0.assumingMemoryBound(to: UInt8.self).baseAddress }
                        let lengths = buffers.map(\.count)
                        return self.use { encoder in
                            cancellation.lend {
                                byol_extract_encoded(
                                    encoder, data, lengths, data.count, nil, features, to.stride, length, statuses, $0, error)
                            }
                        }
                    }
                }
            }
        }
    }

    private func job(paths: [String], _ cancellation: Cancellation?) -> Job {
        Job(count: paths.count) { (to) throws(ByolError) in
            for (index, path) in paths.enumerated() { try checkNoNUL(path, "path \(index)", item: index) }
            let (features, length, statuses) = to.from(0)
            try attempt { error in
                withTexts(paths) { names in
                    self.use { encoder in
                        cancellation.lend {
                            byol_extract_files(
                                encoder, names, paths.count, nil, features, to.stride, length, statuses, $0, error)
                        }
                    }
                }
            }
        }
    }

    private func job(
        tensor: some ContiguousBytes, _ element: Int32, count: Int, _ cancellation: Cancellation?
    ) throws(ByolError) -> Job {
        let bytes = tensor.withUnsafeBytes { $0.count }
        // Before room is made for the features of pictures that are not there.
        guard count >= 0, count <= bytes else {
            throw ByolError(count < 0 ? .invalidArgument : .shape, "\(bytes) bytes for \(count) pictures")
        }
        return Job(count: count) { (to) throws(ByolError) in
            let (features, length, _) = to.from(0)
            try attempt { error in
                tensor.withUnsafeBytes { values in
                    self.use { encoder in
                        cancellation.lend {
                            byol_extract_tensor(
                                encoder, values.baseAddress, values.count, UInt32(element), count, nil, features, to.stride,
                                length, $0, error)
                        }
                    }
                }
            }
        }
    }

    /// Gives the items to `body` in parts, with the number of each part's first; an empty part if there are none, so that
    /// a closed encoder is noticed.
    private static func inParts<Item>(
        _ items: [Item], _ body: (Int, ArraySlice<Item>) throws(ByolError) -> Void
    ) throws(ByolError) {
        var start = 0
        repeat {
            let end = min(start + itemsPerCall, items.count)
            try body(start, items[start..<end])
            start = end
        } while start < items.count
    }

    private func features(_ job: Job) throws(ByolError) -> Matrix {
        var values = [Float](repeating: 0, count: try product(job.count, dimension))
        let result = values.withUnsafeMutableBufferPointer { features in
            Result { () throws(ByolError) in
                try job.run(Destination(features: features, stride: dimension, statuses: nil))
            }
        }
        try result.get()
        return Matrix(values, job.count, dimension, dimension)
    }

    private func extraction(_ job: Job) throws(ByolError) -> Extraction {
        var values = [Float](repeating: 0, count: try product(job.count, dimension))
        var statuses = [byol_status](repeating: BYOL_OK, count: job.count)
        let result = values.withUnsafeMutableBufferPointer { features in
            statuses.withUnsafeMutableBufferPointer { statuses in
                Result { () throws(ByolError) in
                    try job.run(Destination(features: features, stride: dimension, statuses: statuses.baseAddress))
                }
            }
        }
        try result.get()
        return Extraction(
            features: Matrix(values, job.count, dimension, dimension), statuses: statuses.map(ByolError.Code.init(rawValue:)))
    }

    // MARK: Pixels

    /// The features of pictures: row i is of picture i. They do not depend on what else is in the call. The first bad
    /// picture fails the call, and `ByolError.item` names it.
    public func extract(_ pictures: [Picture], cancellation: Cancellation? = nil) throws(ByolError) -> Matrix {
        try features(job(pictures, cancellation))
    }

    /// The features of pictures, off the cooperative pool; stops soon after the task is cancelled.
    public func extract(_ pictures: [Picture]) async throws(ByolError) -> Matrix {
        try await Work.run { (cancellation) throws(ByolError) in try self.extract(pictures, cancellation: cancellation) }
    }

    /// The features of pictures of which some may be bad: those have a row of zeros and a status, the others go on.
    public func extractEach(_ pictures: [Picture], cancellation: Cancellation? = nil) throws(ByolError) -> Extraction {
        try extraction(job(pictures, cancellation))
    }

    /// The features of pictures of which some may be bad, off the cooperative pool.
    public func extractEach(_ pictures: [Picture]) async throws(ByolError) -> Extraction {
        try await Work.run { (cancellation) throws(ByolError) in try self.extractEach(pictures, cancellation: cancellation) }
    }

    /// Writes the features of pictures into memory of the caller's: those of picture i from `i * stride` on; a stride of
    /// nil is the dimension. What lies between the rows is left alone. If it throws, some rows may have been written.
    public func extract(
        _ pictures: [Picture], into features: UnsafeMutableBufferPointer<Float>, stride: Int? = nil,
        cancellation: Cancellation? = nil
    ) throws(ByolError) {
        let distance = stride ?? dimension
        do throws(ByolError) {
            try Matrix.check(pictures.count, dimension, distance, in: features.count)
        } catch {
            throw ByolError(distance < dimension ? .shape : .bufferTooSmall, error.message)
        }
        try job(pictures, cancellation).run(Destination(features: features, stride: distance, statuses: nil))
    }

    // MARK: Encoded pictures

    /// The features of encoded pictures (JPEG, PNG, WebP, BMP, GIF, TIFF), each the bytes of one file, as `Data`,
    /// `[UInt8]` or other bytes; EXIF orientation is obeyed.
    public func extract(
        encoded files: [some ContiguousBytes], cancellation: Cancellation? = nil
    ) throws(ByolError) -> Matrix {
        try features(job(encoded: files, cancellation))
    }

    /// The features of encoded pictures, off the cooperative pool; stops soon after the task is cancelled.
    public func extract(encoded files: [some ContiguousBytes & Sendable]) async throws(ByolError) -> Matrix {
        try await Work.run { (cancellation) throws(ByolError) in try self.extract(encoded: files, cancellation: cancellation) }
    }

    /// The features of encoded pictures of which some may be bad.
    public func extractEach(
        encoded files: [some ContiguousBytes], cancellation: Cancellation? = nil
    ) throws(ByolError) -> Extraction {
        try extraction(job(encoded: files, cancellation))
    }

    /// The features of encoded pictures of which some may be bad, off the cooperative pool.
    public func extractEach(encoded files: [some ContiguousBytes & Sendable]) async throws(ByolError) -> Extraction {
        try await Work.run { (cancellation) throws(ByolError) in
            try self.extractEach(encoded: files, cancellation: cancellation)
        }
    }

    // MARK: Files

    /// The features of picture files.
    public func extract(files: [URL], cancellation: Cancellation? = nil) throws(ByolError) -> Matrix {
        try features(job(paths: files.map(\.path), cancellation))
    }

    /// The features of picture files, off the cooperative pool; stops soon after the task is cancelled.
    public func extract(files: [URL]) async throws(ByolError) -> Matrix {
        try await Work.run { (cancellation) throws(ByolError) in try self.extract(files: files, cancellation: cancellation) }
    }

    /// The features of picture files of which some may be bad.
    public func extractEach(files: [URL], cancellation: Cancellation? = nil) throws(ByolError) -> Extraction {
        try extraction(job(paths: files.map(\.path), cancellation))
    }

    /// The features of picture files of which some may be bad, off the cooperative pool.
    public func extractEach(files: [URL]) async throws(ByolError) -> Extraction {
        try await Work.run { (cancellation) throws(ByolError) in
            try self.extractEach(files: files, cancellation: cancellation)
        }
    }

    // MARK: Tensors

    /// The features of `count` pictures that already have the input's size and channels, without gaps, as [count, height,
    /// width, channels].
    public func extract(
        pixels: some ContiguousBytes, count: Int, cancellation: Cancellation? = nil
    ) throws(ByolError) -> Matrix {
        try features(job(tensor: pixels, BYOL_TENSOR_U8, count: count, cancellation))
    }

    /// The features of `count` pictures of the input's size, off the cooperative pool.
    public func extract(pixels: some ContiguousBytes & Sendable, count: Int) async throws(ByolError) -> Matrix {
        try await Work.run { (cancellation) throws(ByolError) in
            try self.extract(pixels: pixels, count: count, cancellation: cancellation)
        }
    }

    /// The features of `count` pictures as normalised values, without gaps, as [count, channels, height, width], for a
    /// model that takes those.
    public func extract(values: [Float], count: Int, cancellation: Cancellation? = nil) throws(ByolError) -> Matrix {
        try features(job(tensor: FloatBytes(values: values), BYOL_TENSOR_F32, count: count, cancellation))
    }

    /// The features of `count` pictures as normalised values, off the cooperative pool.
    public func extract(values: [Float], count: Int) async throws(ByolError) -> Matrix {
        try await Work.run { (cancellation) throws(ByolError) in
            try self.extract(values: values, count: count, cancellation: cancellation)
        }
    }
}

private struct FloatBytes: ContiguousBytes {
    let values: [Float]

    func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try values.withUnsafeBytes(body)
    }
}
