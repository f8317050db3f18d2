import Foundation
import XCTest

@testable import Byol

/// Trainers, containers, packed features, and what heads can become.
final class TrainerTests: XCTestCase {
    let names = ["top", "upper", "lower", "bottom"]

    private func teach(_ encoder: ImageEncoder) throws -> Trainer {
        let trainer = try Trainer(of: encoder)
        for (i, name) in names.enumerated() { XCTAssertEqual(try trainer.addClass(name), i) }
        return trainer
    }

    private func folder() throws -> URL {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("byol-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        addTeardownBlock { try FileManager.default.removeItem(at: folder) }
        return folder
    }

    func testATrainerFitsWhatIsThere() throws {
        let encoder = try open()
        let (pictures, labels, _) = bands(count)
        let features = try encoder.extract(pictures)
        let trainer = try teach(encoder)
        expect(.data) { try trainer.fit() }
        var bad = pictures
        bad[2] = Picture([1, 2, 3], width: edge, height: edge, format: .gray8)
        XCTAssertThrowsError(try trainer.add(bad, labels: labels, with: encoder)) { XCTAssertEqual(($0 as? ByolError)?.item, 2) }
        XCTAssertEqual(try trainer.info().examples, 0)
        let ids = try trainer.add(features, labels: labels)
        XCTAssertEqual(ids, (1...UInt64(count)).map { $0 })
        XCTAssertEqual(try trainer.info().encoderSHA256, try encoder.info().sha256)
        XCTAssertFalse(try trainer.info().isFitted)
        var options = FitOptions()
        options.tolerance = 1e-9
        var steps = 0
        let (whole, report) = try trainer.fit(options: options) {
            steps = $0.iteration
            return true
        }
        XCTAssertTrue(report.converged)
        XCTAssertEqual(steps, report.iterations)
        XCTAssertEqual(try whole.predict(features).labels, labels)
        XCTAssertEqual(try whole.classNames(), names)
        func near(_ other: Head) throws -> Bool {
            try zip(whole.weights().weights.values, other.weights().weights.values).allSatisfy { abs($0 - $1) < 1e-3 }
        }

        // Examples that come and go: to the same optimum when they have gone again.
        let more = try trainer.add(Matrix(rows: features[0..<8]), labels: Array(labels[1..<9]))
        try trainer.relabel(ids[5], to: (labels[5] + 1) % classCount)
        XCTAssertFalse(try near(trainer.refit(options: options).head))
        try trainer.remove(more)
        try trainer.relabel(ids[5], to: labels[5])
        XCTAssertTrue(try near(trainer.refit(options: options).head))
        XCTAssertTrue(try trainer.info().isFitted)
        expect(.notFound) { try trainer.remove([more[0]]) }
        expect(.notFound) { try trainer.relabel(more[0], to: 0) }
        expect(.notFound) { try trainer.classInfo(9) }
        XCTAssertEqual(try trainer.classInfo(1), TrainerClass(name: "upper", examples: count / classCount))
        expect(.cancelled) { try trainer.fit { _ in false } }

        var heard = 0
        let found = try trainer.search {
            heard += $0.accuracy >= 0 ? 1 : 0
            return true
        }
        XCTAssertEqual(found.tried.count, heard)
        XCTAssertGreaterThan(found.tried[0].l2, found.tried[1].l2)
        XCTAssertEqual(try found.head.predict(features).labels, labels)
        var search = SearchOptions()
        (search.penalties, search.folds) = ([1e-4, 1e-2], 5)
        XCTAssertEqual(try trainer.search(search).tried.map(\.l2), [1e-2, 1e-4])
        search.folds = -1
        expect(.invalidArgument) { try trainer.search(search) }
        expect(.cancelled) { try trainer.search { _ in false } }
        XCTAssertEqual(try trainer.imprint(scale: 20).predict(features).labels, labels)
        expect(.invalidArgument) { try trainer.imprint(scale: -1) }

        // Out as a container, and in again; a class less.
        let kept = try trainer.features()
        let second = try Trainer(dimension: encoder.dimension)
        XCTAssertEqual(try second.add(kept), 1)
        try second.removeClass(0)
        XCTAssertEqual(try second.info().examples, count - count / classCount)
        XCTAssertEqual(try second.classInfo(0).name, "upper")
        expect(.notFound) { try second.removeClass(7) }
        second.close()
        second.close()
        expect(.closed) { try second.info() }
        expect(.closed) { try second.add(features, labels: labels) }
        expect(.label) { try trainer.add(features, labels: [0]) }
        expect(.shape) { try trainer.add(Matrix([1, 2], rows: 1, columns: 2), labels: [0]) }
        expect(.invalidArgument) { try trainer.addClass("a\0b") }
        expect(.invalidArgument) { try Trainer(dimension: -1) }
    }

    func testATrainerTakesPicturesOfEveryKind() throws {
        let encoder = try open()
        let (pictures, labels, _) = bands(count)
        let trainer = try teach(encoder)
        try trainer.add(pictures, labels: labels, with: encoder)
        try trainer.add(encoded: [bitmap()], labels: [0], with: encoder)
        let file = try folder().appendingPathComponent("bild ä.bmp")
        try Data(bitmap()).write(to: file)
        try trainer.add(files: [file], labels: [1], with: encoder)
        XCTAssertEqual(try trainer.info().examples, count + 2)
        let addition = try trainer.addEach(
            files: [file, URL(fileURLWithPath: "/no/such.png")], labels: [2, 2], with: encoder)
        XCTAssertEqual(addition.statuses, [.ok, .notFound])
        XCTAssertEqual(addition.examples.map { $0 == nil }, [false, true])
        XCTAssertEqual(try trainer.info().examples, count + 3)
        // More than one call takes: they are no less of another encoder.
        let many = bands(itemsPerCall + 1)
        let other = try ImageEncoder(.bytes(Data(contentsOf: URL(fileURLWithPath: modelPath())) + [0xC2, 0x3E, 0]))
        XCTAssertEqual(other.dimension, encoder.dimension)
        expect(.wrongEncoder) { try trainer.add(many.pictures, labels: many.labels, with: other) }
        let encoded = [[UInt8]](repeating: bitmap(), count: many.labels.count)
        expect(.wrongEncoder) { try trainer.add(encoded: encoded, labels: many.labels, with: other) }
        XCTAssertEqual(try trainer.info().examples, count + 3)
        try trainer.add(many.pictures, labels: many.labels, with: encoder)
        try trainer.add(encoded: encoded, labels: many.labels, with: encoder)
        XCTAssertEqual(try trainer.info().examples, count + 3 + 2 * many.labels.count)
        expect(.notFound) { try trainer.add(files: [URL(fileURLWithPath: "/no/such.png")], labels: [0], with: encoder) }
        encoder.close()
        expect(.closed) { try trainer.add(pictures, labels: labels, with: encoder) }
    }

    func testAContainerKeepsAndFinds() throws {
        let encoder = try open()
        let (pictures, labels, _) = bands(count)
        let features = try encoder.extract(pictures)
        let container = try Features(of: encoder)
        let rowNames = (0..<count).map { "bild \($0)" }
        try container.append(features, labels: labels, names: rowNames)
        try container.setClasses(names)
        let path = try folder().appendingPathComponent("features.safetensors")
        try container.save(to: path)
        for one in [container, try Features(contentsOf: path)] {
            let info = try one.info()
            XCTAssertEqual([info.rows, info.dimension, info.classes], [count, encoder.dimension, classCount])
            XCTAssertEqual(info.encoderSHA256, try encoder.info().sha256)
            XCTAssertTrue(info.hasLabels && info.hasNames)
            XCTAssertEqual(try one.rows(3..<5), try Matrix(rows: features[3..<5]))
            XCTAssertEqual(try one.labels(0..<count), labels)
            XCTAssertEqual(try one.name(7), "bild 7")
            XCTAssertEqual(try one.className(2), "lower")
            let nearest = try one.nearest(features, k: 3)
            XCTAssertEqual(nearest.rows.map { $0[0] }, Array(0..<count))
            let similar = try one.similarity(Matrix(rows: features[0..<1]))
            XCTAssertEqual(similar.columns, count)
            XCTAssertEqual(similar[0, nearest.rows[0][2]], nearest.similarities[0, 2])
        }
        expect(.label) { try container.append(features, labels: [1]) }
        expect(.shape) { try container.append(features, labels: labels, names: ["one"]) }
        expect(.invalidArgument) { try container.nearest(features, k: 0) }
        expect(.invalidArgument) { try container.nearest(features, k: count + 1) }
        expect(.notFound) { try container.name(count) }
        expect(.notFound) { try Features(path: "/no/such.npy") }
        XCTAssertEqual(try container.rows(4..<4).rows, 0)
        container.close()
        expect(.closed) { try container.info() }
    }

    func testPackedFeatures() throws {
        let features = try open().extract(bands(count).pictures)
        for packing in PackedFeatures.Packing.allCases {
            let packed = try PackedFeatures(features, as: packing)
            XCTAssertEqual(packed.data.count, features.rows * features.columns * (packing == .int8 ? 1 : 2))
            let again = try packed.unpacked()
            let largest = features.values.map(abs).max()!
            XCTAssertTrue(zip(features.values, again.values).allSatisfy { abs($0 - $1) <= largest / 200 })
            XCTAssertEqual(try PackedFeatures(again, as: packing), packed)
            XCTAssertEqual(try open().extract(bands(count).pictures, as: packing), packed)
        }
    }

    func testWhatAHeadCanBecome() throws {
        let encoder = try open()
        let (pictures, labels, _) = bands(count)
        let features = try encoder.extract(pictures)
        let (head, _) = try Head.fit(Examples(features, labels: labels, classNames: names, encoder: encoder))
        let (weights, bias) = try head.weights()
        let rebuilt = try Head(weights: weights, bias: bias, classNames: names, encoder: encoder)
        XCTAssertEqual(try rebuilt.predict(features).labels, labels)
        XCTAssertEqual(try rebuilt.classNames(), names)
        let twin = try head.clone()
        head.close()
        expect(.closed) { try head.weights() }
        XCTAssertEqual(try twin.predict(features).labels, labels)
        let (cool, temperature) = try twin.calibrated(features, labels: labels)
        XCTAssertGreaterThan(temperature, 0)
        XCTAssertEqual(try cool.predict(features).labels, labels)
        let ranking = try twin.top(2, of: features)
        XCTAssertEqual(ranking.labels.map { $0[0] }, labels)
        XCTAssertTrue(ranking.probabilities.allSatisfy { $0[$0.startIndex] >= $0[$0.startIndex + 1] })
        XCTAssertTrue(try twin.top(1, of: features, threshold: 1).labels.contains([nil]))
        expect(.invalidArgument) { try twin.top(1, of: features, threshold: 2) }
        expect(.invalidArgument) { try twin.top(classCount + 1, of: features) }
        expect(.shape) { try Head(weights: weights, bias: [1]) }

        // Alone and behind the encoder: a model whose pictures give scores.
        let place = try folder()
        let alone = place.appendingPathComponent("head.onnx")
        try twin.exportONNX(path: alone.path)
        XCTAssertEqual(try Data(contentsOf: alone), try twin.onnx())
        XCTAssertEqual(try Source.file(alone).inspect().inputName, "features")
        let merged = try twin.onnx(behind: .path(modelPath()))
        XCTAssertEqual(try Source.bytes(merged).inspect().width, edge)
        expect(.notFound) { try twin.onnx(behind: .path("/no/such")) }
        expect(.wrongEncoder) { try twin.onnx(behind: .bytes(Data([1, 2]))) }
    }

    func testModelsFromAFunction() throws {
        let bytes = try Data(contentsOf: URL(fileURLWithPath: modelPath()))
        struct Broken: Error {}
        func source(_ sha256: String? = nil, failing: Bool = false) -> Source {
            .reader(sha256: sha256) {
                let position = Position()
                return { room in
                    let start = position.take(min(room.count, 1000, bytes.count - position.value))
                    if failing && start > 5_000 { throw Broken() }
                    bytes.copyBytes(to: room, from: start..<position.value)
                    return position.value - start
                }
            }
        }
        let sha256 = try Source.path(modelPath()).inspect().sha256
        XCTAssertEqual(try source().inspect().sha256, sha256)
        let pictures = bands(4).pictures
        // The same source again: it begins at the first byte.
        let encoder = try ImageEncoder(source(sha256))
        XCTAssertEqual(try encoder.extract(pictures), try open().extract(pictures))
        let head = try Head(weights: Matrix(rows: encoder.extract(pictures)[0..<2]), encoder: encoder)
        XCTAssertEqual(try head.onnx(behind: source()), try head.onnx(behind: .path(modelPath())))
        expect(.io) { try head.onnx(behind: source(failing: true)) }
        expect(.checksum) { try source(String(repeating: "0", count: 64)).inspect() }
        expect(.io) { try source(failing: true).inspect() }
        expect(.io) { try Source.reader { { _ in -1 } }.inspect() }
    }

    func testStatsTellWhatWasDone() throws {
        let before = try Runtime.stats()
        _ = try open().extract(bands(5).pictures)
        let after = try Runtime.stats()
        XCTAssertEqual(after.pictures - before.pictures, 5)
        XCTAssertGreaterThan(after.calls, before.calls)
        XCTAssertGreaterThanOrEqual(after.heldPeak, after.heldBytes)
        try Runtime.trim()
    }

    func testNothingIsLeftOfTrainersAndContainers() throws {
        let live = Library.liveHandles()
        for _ in 0..<25_000 {
            let trainer = try Trainer(dimension: 2)
            let container = try Features(dimension: 2)
            try withExtendedLifetime(container) { _ = try trainer.addClass("a") }
        }
        XCTAssertEqual(Library.liveHandles(), live)
    }
}

/// How far a reader is.
final class Position: Sendable {
    private let lock = NSLock()
    nonisolated(unsafe) private(set) var value = 0

    /// Goes on by so much, and says from where.
    func take(_ bytes: Int) -> Int {
        lock.withLock {
            value += bytes
            return value - bytes
        }
    }
}
