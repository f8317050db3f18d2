import CByol
import Foundation
import XCTest

@testable import Byol

/// What tests share: the encoder that tests/swift/run.sh makes, and gray pictures whose bright band tells their class.
let edge = 28
let classCount = 4
let count = 60

func environment(_ name: String) throws -> String {
    guard let value = ProcessInfo.processInfo.environment[name] else {
        throw Missing(description: "\(name) is not set: run tests/swift/run.sh")
    }
    return value
}

struct Missing: Error, CustomStringConvertible {
    let description: String
}

func modelPath() throws -> String { try environment("BYOL_TEST_ENCODER") }

func open() throws -> ImageEncoder { try ImageEncoder(.path(modelPath())) }

func bands(_ count: Int) -> (pictures: [Picture], labels: [Int], pixels: [[UInt8]]) {
    var noise: UInt32 = 12345
    var pixels: [[UInt8]] = []
    for label in (0..<count).map({ $0 % classCount }) {
        pixels.append(
            (0..<edge * edge).map { p in
                noise = noise &* 1_664_525 &+ 1_013_904_223
                return UInt8(noise >> 26) + (p / edge / (edge / classCount) == label ? 180 : 20)
            })
    }
    let pictures = pixels.map { Picture($0, width: edge, height: edge, format: .gray8) }
    return (pictures, (0..<count).map { $0 % classCount }, pixels)
}

/// The examples of a fit that takes many seconds: labels without any sense, and a tolerance that is not met soon.
func hardExamples() throws -> (Examples, FitOptions) {
    var state: UInt64 = 1
    func random() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state >> 33
    }
    let (rows, columns) = (20_000, 200)
    let values = (0..<rows * columns).map { _ in Float(random() % 2001) / 1000 - 1 }
    var options = FitOptions()
    (options.l2, options.tolerance, options.maxIterations) = (1e-9, 1e-300, 1_000_000)
    return (Examples(try Matrix(values, rows: rows, columns: columns), labels: (0..<rows).map { _ in Int(random() % 20) }), options)
}

/// Checks that a call throws a code, with a message.
func expect<Value>(
    _ code: ByolError.Code, file: StaticString = #filePath, line: UInt = #line, _ call: () throws -> Value
) {
    do {
        _ = try call()
        XCTFail("nothing was thrown, not \(code)", file: file, line: line)
    } catch let error as ByolError {
        XCTAssertEqual(error.code, code, error.message, file: file, line: line)
        XCTAssertFalse(error.message.isEmpty, file: file, line: line)
    } catch {
        XCTFail("\(error) is no ByolError", file: file, line: line)
    }
}
