import Foundation
import XCTest

@testable import Byol

/// Whatever a caller does wrong is an error of this package's, never a crash.
final class MistakeTests: XCTestCase {
    func testModelsThatAreNone() throws {
        expect(.notFound) { try ImageEncoder(.path("/no/such.onnx")) }
        expect(.modelInvalid) { try ImageEncoder(.bytes(Data("no model".utf8))) }
        expect(.modelInvalid) { try ImageEncoder(.bytes(Data())) }
        expect(.invalidArgument) { try ImageEncoder(.path("a\0b")) }
        expect(.checksum) { try Source.path(modelPath(), sha256: String(repeating: "0", count: 64)).inspect() }
        expect(.invalidArgument) { try Source.path(modelPath(), sha256: "\0").inspect() }
        var options = EncoderOptions()
        options.maxModelBytes = 10
        expect(.limit) { try ImageEncoder(.path(modelPath()), options: options) }
        options = EncoderOptions()
        options.sessions = -1
        expect(.invalidArgument) { try ImageEncoder(.path(modelPath()), options: options) }
        options = EncoderOptions()
        options.output = "no such output"
        XCTAssertThrowsError(try ImageEncoder(.path(modelPath()), options: options))
        options.output = nil
        options.contract = Contract(
            channels: 1, height: 28, width: 28, resize: .stretch, filter: .bilinear, mean: [0, 0, 0, 0, 0], deviation: [1])
        expect(.invalidArgument) { try ImageEncoder(.path(modelPath()), options: options) }
        options.contract?.mean = [0]
        options.contract?.height = -3
        expect(.invalidArgument) { try ImageEncoder(.path(modelPath()), options: options) }
    }

    func testPicturesThatAreNone() throws {
        let encoder = try open()
        for picture in [
            Picture([], width: 28, height: 28, format: .gray8), Picture(Data(), width: 28, height: 28, format: .gray8),
            Picture([1], width: -1, height: 1, format: .gray8), Picture([1], width: 1, height: .max, format: .rgb8),
            Picture([1], width: 1, height: 2, format: .gray8, bytesPerRow: -1),
            Picture([1], width: 1, height: 2, format: .gray8, bytesPerRow: .min),
            Picture(unsafePixels: UnsafeRawBufferPointer(start: nil, count: 0), width: 1, height: 1, format: .rgbx8),
        ] {
            XCTAssertThrowsError(try encoder.extract([picture]), "\(picture)") { XCTAssertTrue($0 is ByolError) }
        }
        expect(.imageDecode) { try encoder.extract(encoded: [Data("no picture".utf8)]) }
        expect(.notFound) { try encoder.extract(files: [URL(fileURLWithPath: "/no/such.jpg")]) }
        expect(.shape) { try encoder.extract(pixels: [UInt8](), count: .max) }
        expect(.invalidArgument) { try encoder.extract(pixels: [1, 2, 3] as [UInt8], count: -1) }
        expect(.shape) { try encoder.extract(pixels: [1, 2, 3] as [UInt8], count: 1) }
        XCTAssertThrowsError(try encoder.extract(values: [Float](repeating: 0, count: edge * edge), count: 1))
        XCTAssertEqual(try encoder.extract([]).rows, 0)
        XCTAssertEqual(try encoder.extract(encoded: [Data]()).rows, 0)
        XCTAssertEqual(try encoder.extract(files: []).rows, 0)
        var room = [Float](repeating: 0, count: 3)
        room.withUnsafeMutableBufferPointer { room in
            expect(.bufferTooSmall) { try encoder.extract(bands(1).pictures, into: room) }
            expect(.shape) { try encoder.extract(bands(1).pictures, into: room, stride: 1) }
        }
    }

    func testExamplesThatTeachNothing() throws {
        let features = try Matrix(rows: [[1, 2], [3, 4], [5, 7]] as [[Float]])
        let nan = try Matrix([1, .nan, 3, 4, 5, 6], rows: 3, columns: 2)
        expect(.label) { try Head.fit(Examples(features, labels: [0, 1])) }
        expect(.label) { try Head.fit(Examples(features, labels: [0, 1, -1])) }
        expect(.label) { try Head.fit(Examples(features, labels: [0, 1, 2], classNames: ["a", "b"])) }
        expect(.data) { try Head.fit(Examples(features, labels: [0, 0, 0])) }
        expect(.data) { try Head.fit(Examples(try Matrix([], rows: 0, columns: 2), labels: [])) }
        expect(.nonFinite) { try Head.fit(Examples(nan, labels: [0, 1, 1])) }
        expect(.invalidArgument) { try Head.fit(Examples(features, labels: [0, 1, 1], classNames: ["a", "b\0"])) }
        var options = FitOptions()
        options.l2 = -1
        expect(.invalidArgument) { try Head.fit(Examples(features, labels: [0, 1, 1]), options: options) }
        options = FitOptions()
        options.maxIterations = -1
        expect(.invalidArgument) { try Head.fit(Examples(features, labels: [0, 1, 1]), options: options) }
        options = FitOptions()
        for weights: [Float] in [[], [1], [1, 1, 1]] {
            options.classWeights = weights
            expect(.shape) { try Head.fit(Examples(features, labels: [0, 1, 1]), options: options) }
            let trainer = try Trainer(dimension: 2)
            for name in ["a", "b"] { try trainer.addClass(name) }
            try trainer.add(features, labels: [0, 1, 1])
            expect(.shape) { try trainer.fit(options: options) }
            expect(.shape) { try trainer.refit(options: options) }
            expect(.shape) { try trainer.search(options: options) }
        }
        options = FitOptions()
        options.sampleWeights = []
        expect(.shape) { try Head.fit(Examples(features, labels: [0, 1, 1]), options: options) }
        expect(.shape) { try Matrix([1], rows: 2, columns: 1) }
        expect(.shape) { try Matrix([1], rows: .max, columns: .max) }
        expect(.shape) { try Matrix([1], rows: -1, columns: 1) }
        expect(.shape) { try Matrix(rows: [[1, 2], [3]] as [[Float]]) }
        expect(.cancelled) { try Head.fit(Examples(features, labels: [0, 1, 1])) { _ in false } }
        let (head, _) = try Head.fit(Examples(features, labels: [0, 1, 1]))
        expect(.shape) { try head.predict(try Matrix([1], rows: 1, columns: 1)) }
        expect(.nonFinite) { try head.logits(nan) }
        expect(.label) { try head.evaluate(features, labels: [0]) }
        expect(.notFound) { try head.className(2) }
        expect(.invalidArgument) { try head.className(-2) }
        expect(.invalidArgument) { try head.save(path: "a\0b") }
        XCTAssertThrowsError(try head.save(path: "/no/such/folder/head"))
        expect(.shape) { try head.check(open()) }
        expect(.invalidArgument) { try Neighbours.predict(features, among: features, labels: [0, 1, 2], k: -1) }
        expect(.invalidArgument) { try Neighbours.predict(features, among: features, labels: [0, 1, 2], k: 0) }
        expect(.label) { try Neighbours.predict(features, among: features, labels: [], k: 1) }
    }

    func testHeadsThatAreNone() throws {
        let features = try Matrix(rows: [[1, 2], [3, 4], [5, 7]] as [[Float]])
        let file = try Head.fit(Examples(features, labels: [0, 1, 1])).head.data()
        for cut in stride(from: 0, to: file.count, by: 7) {
            expect(.corrupt) { try Head(data: file.prefix(cut)) }
        }
        expect(.notFound) { try Head(path: "/no/such") }
    }

    func testWhatIsClosedIsAnError() throws {
        let encoder = try open()
        let pictures = bands(8).pictures
        let features = try encoder.extract(pictures)
        let (head, _) = try Head.fit(Examples(features, labels: bands(8).labels, encoder: encoder))
        encoder.close()
        encoder.close()
        expect(.closed) { try encoder.extract(pictures) }
        expect(.closed) { try encoder.extract([]) }
        expect(.closed) { try encoder.info() }
        expect(.closed) { try encoder.metadata() }
        expect(.closed) { try head.classify(pictures, with: encoder) }
        expect(.closed) { try Head.fit(Examples(features, labels: bands(8).labels, encoder: encoder)) }
        head.close()
        expect(.closed) { try head.predict(features) }
        expect(.closed) { try head.data() }
        let runtime = try Runtime()
        runtime.close()
        var options = EncoderOptions()
        options.runtime = runtime
        expect(.closed) { try ImageEncoder(.path(modelPath()), options: options) }
    }

    func testDeadlinesAndCancellations() throws {
        let encoder = try open()
        let pictures = Array(repeating: bands(1).pictures[0], count: 100_000)
        expect(.deadline) { try encoder.extract(pictures, cancellation: Cancellation(timeout: .milliseconds(20))) }
        let cancellation = try Cancellation()
        cancellation.cancel()
        expect(.cancelled) { try encoder.extract(pictures, cancellation: cancellation) }
        cancellation.reset()
        XCTAssertEqual(try encoder.extract(Array(pictures[..<3]), cancellation: cancellation).rows, 3)
        expect(.invalidArgument) { try Cancellation(timeout: .seconds(-1)) }
        let (examples, options) = try hardExamples()
        let start = ContinuousClock.now
        expect(.deadline) {
            try Head.fit(examples, options: options, cancellation: Cancellation(timeout: .milliseconds(300)))
        }
        XCTAssertLessThan(ContinuousClock.now - start, .seconds(3))
    }
}
