import Foundation
import XCTest

@testable import Byol

/// The whole way: inspect, open, extract in every form, fit, predict, evaluate, save, load, classify.
final class FlowTests: XCTestCase {
    func testTheWholeWay() throws {
        let encoder = try open()
        let (pictures, labels, pixels) = bands(count)
        let model = try Source.path(modelPath()).inspect()
        let info = try encoder.info()
        XCTAssertEqual(model.sha256, info.sha256)
        XCTAssertEqual([model.dimension, model.width, model.channels], [encoder.dimension, edge, 1])
        XCTAssertEqual([model.input, .uint8], [.uint8, model.input])
        XCTAssertEqual(info.contract.channels, 1)
        XCTAssertEqual(info.contract.mean.count, 1)
        XCTAssertGreaterThan(try encoder.metadata().count, 3)
        XCTAssertTrue(try Library.buildInfo().contains("onnxruntime"))

        let features = try encoder.extract(pictures)
        XCTAssertEqual([features.rows, features.columns], [count, encoder.dimension])
        XCTAssertEqual(try encoder.extract(pixels: pixels.flatMap { $0 }, count: count), features)
        XCTAssertEqual(try encoder.extract(pixels: Data(pixels.joined()), count: count), features)
        let fromData = pixels.map { Picture(Data($0), width: edge, height: edge, format: .gray8) }
        XCTAssertEqual(try encoder.extract(fromData), features)
        pixels[3].withUnsafeBytes { bytes in
            let lent = Picture(unsafePixels: bytes, width: edge, height: edge, format: .gray8)
            XCTAssertEqual(try? encoder.extract([lent])[0], features[3])
        }
        // More than go into one call, of files in memory.
        let bmp = bitmap()
        let many = try encoder.extract(encoded: Array(repeating: bmp, count: 2 * itemsPerCall + 3))
        XCTAssertEqual(many.rows, 2 * itemsPerCall + 3)
        XCTAssertTrue(many.allSatisfy { $0.elementsEqual(many[0]) })
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("byol-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appendingPathComponent("bild ä.bmp")
        try Data(bmp).write(to: file)
        XCTAssertEqual(try encoder.extract(files: [file])[0], many[0])

        let stride = encoder.dimension + 5
        var into = [Float](repeating: -77, count: count * stride)
        try into.withUnsafeMutableBufferPointer { try encoder.extract(pictures, into: $0, stride: stride) }
        let strided = try Matrix(into, rows: count, columns: encoder.dimension, stride: stride)
        XCTAssertTrue(zip(strided, features).allSatisfy { $0.elementsEqual($1) })
        XCTAssertEqual(into[encoder.dimension], -77)

        var steps = 0
        let names = ["top", "upper", "lower", "böttom"]
        let (head, report) = try Head.fit(Examples(features, labels: labels, classNames: names, encoder: encoder)) {
            steps = $0.iteration
            return true
        }
        XCTAssertTrue(report.converged)
        XCTAssertEqual(steps, report.iterations)
        let prediction = try head.predict(strided)
        XCTAssertEqual(prediction.labels, labels)
        let metrics = try head.evaluate(features, labels: labels)
        XCTAssertEqual([metrics.top1, metrics.perClass[2].f1], [1, 1])
        XCTAssertEqual(metrics.confusion[1], [0, count / classCount, 0, 0])
        XCTAssertTrue(metrics.top1Interval.contains(0.99))
        XCTAssertEqual(try Neighbours.predict(features, among: features, labels: labels, k: 1), labels)
        XCTAssertEqual(try head.logits(features).columns, classCount)

        let saved = folder.appendingPathComponent("head.safetensors")
        try head.save(to: saved)
        XCTAssertEqual(try Data(contentsOf: saved), try head.data())
        for loaded in [try Head(contentsOf: saved), try Head(data: try head.data()), try Head(data: [UInt8](try head.data()))] {
            XCTAssertEqual(try loaded.classNames(), names)
            XCTAssertEqual(try loaded.info(), try head.info())
            try loaded.check(encoder)
            XCTAssertEqual(try loaded.classify(pictures, with: encoder), prediction)
        }
    }

    func testOneBadPictureIsNamedOrLeftOut() throws {
        let encoder = try open()
        var (pictures, labels, _) = bands(300)
        pictures[270] = Picture([1, 2, 3], width: edge, height: edge, format: .gray8)
        do {
            _ = try encoder.extract(pictures)
            XCTFail("a short picture was taken")
        } catch {
            XCTAssertEqual(error.item, 270)
        }
        let extraction = try encoder.extractEach(pictures)
        XCTAssertEqual(extraction.statuses.indices.filter { extraction.statuses[$0] != .ok }, [270])
        XCTAssertTrue(extraction.features[270].allSatisfy { $0 == 0 })
        labels[270] = 0
        let (head, _) = try Head.fit(Examples(extraction.features, labels: labels))
        let classification = try head.classifyEach(pictures, with: encoder)
        XCTAssertEqual(classification.labels.indices.filter { classification.labels[$0] == nil }, [270])
        XCTAssertEqual(try head.classify(Array(pictures[280...]), with: encoder).labels, classification.labels[280...].map { $0! })
        expect(.invalidArgument) { try head.classify(pictures, with: encoder) }
        let encoded = try encoder.extractEach(encoded: [bitmap(), [1, 2], []])
        XCTAssertEqual(encoded.statuses.map { $0 == .ok }, [true, false, false])
        let files = try encoder.extractEach(files: [URL(fileURLWithPath: "/no/such/file")])
        XCTAssertEqual(files.statuses, [.notFound])
    }

    func testContractsReplaceWhatTheFileSays() throws {
        var options = EncoderOptions()
        options.contract = try open().info().contract
        options.sessions = 2
        let same = try ImageEncoder(.bytes(Data(contentsOf: URL(fileURLWithPath: modelPath()))), options: options)
        XCTAssertEqual(try same.info().sessions, 2)
        let pictures = bands(4).pictures
        XCTAssertEqual(try same.extract(pictures), try open().extract(pictures))
        options.contract?.resize = .shortSide(40)
        options.contract?.filter = .bicubic
        XCTAssertNotEqual(try ImageEncoder(.path(modelPath()), options: options).extract(pictures), try same.extract(pictures))
    }

    func testTheLogHearsWhatIsSaid() throws {
        let heard = Heard()
        try Library.setLog(.info) { level, message in heard.add(level, message) }
        defer { try? Library.setLog(.off, nil) }
        expect(.notFound) { try Head(path: "/no/such/head") }
        let messages = heard.all
        XCTAssertTrue(messages.contains { $0.0 == .error && $0.1.contains("/no/such/head") }, "\(messages)")
        try Library.setLog(.off, nil)
        expect(.notFound) { try Head(path: "/no/such/head") }
        XCTAssertEqual(heard.all.count, messages.count)
    }

    func testColoursLoseTheirAlpha() {
        var pixels: [UInt8] = [10, 20, 30, 0, 64, 128, 0, 128, 1, 2, 3, 255]
        Picture.unpremultiply(&pixels)
        XCTAssertEqual(pixels, [0, 0, 0, 0, 127, 255, 0, 128, 1, 2, 3, 255])
    }
}

final class Heard: Sendable {
    private let lock = NSLock()
    nonisolated(unsafe) private var messages: [(Library.LogLevel, String)] = []

    func add(_ level: Library.LogLevel, _ message: String) { lock.withLock { messages.append((level, message)) } }
    var all: [(Library.LogLevel, String)] { lock.withLock { messages } }
}

/// A picture file of 2 x 2 pixels.
func bitmap() -> [UInt8] {
    var file: [UInt8] = [0x42, 0x4d, 70, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 24, 0]
    file += [UInt8](repeating: 0, count: 24)
    return file + [10, 20, 30, 40, 50, 60, 0, 0, 70, 80, 90, 99, 9, 1, 0, 0]
}
