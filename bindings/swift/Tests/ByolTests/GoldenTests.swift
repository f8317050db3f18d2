import Foundation
import XCTest

@testable import Byol

/// What tests/bindings/golden.sh compares with the other languages, bit by bit.
final class GoldenTests: XCTestCase {
    func testGolden() throws {
        let root = try environment("BYOL_TEST_ROOT")
        let names = ["bag", "sneaker", "trouser"]
        let (width, height, gap) = (9, 7, 3)
        var out = ""
        func hex(_ bits: some FixedWidthInteger) -> String {
            let digits = String(bits, radix: 16)
            return " " + String(repeating: "0", count: bits.bitWidth / 4 - digits.count) + digits
        }
        func row(_ what: String, _ i: Int, _ values: ArraySlice<Float>) {
            out += "\(what) \(i)" + values.map { hex($0.bitPattern) }.joined() + "\n"
        }
        func numbers(_ what: String, _ values: Double...) {
            out += what + values.map { hex($0.bitPattern) }.joined() + "\n"
        }
        let encoder = try ImageEncoder(.path(root + "/tests/data/encoder/uint8.onnx"))
        let labels = (0..<12).map { $0 / 4 }
        let features = try encoder.extract(
            files: (0..<12).map { URL(fileURLWithPath: "\(root)/tests/data/pictures/\(names[$0 / 4])/\($0 % 4).png") })
        for i in features.indices { row("files", i, features[i]) }
        // Those of whole numbers: of any bytes they are pictures.
        for format in Picture.Format.allCases where format != .rgbFloat && format != .rgbFloatPlanar {
            let stride = width * format.bytesPerPixel + gap
            let rows = format == .nv12 || format == .nv12Full ? height + (height + 1) / 2 : height
            var noise = 7 + format.rawValue
            let pixels = (0..<rows * stride).map { _ in
                noise = noise &* 1_664_525 &+ 1_013_904_223
                return UInt8(noise >> 24)
            }
            var picture = Picture(pixels, width: width, height: height, format: format, bytesPerRow: stride)
            row("pixels", Int(format.rawValue), try encoder.extract([picture])[0])
            if format == .rgb8 {
                picture.region = Picture.Region(x: 1, y: 2, width: 5, height: 4)
                picture.orientation = 6
                row("turned", 6, try encoder.extract([picture])[0])
            }
        }
        let (head, report) = try Head.fit(Examples(features, labels: labels, classNames: names, encoder: encoder))
        out += "fit \(report.iterations) \(report.passes)\n"
        numbers("fit.objective", report.objective)
        func opinion(_ what: String, _ head: Head) throws {
            let (logits, prediction) = (try head.logits(features), try head.predict(features))
            for (i, label) in prediction.labels.enumerated() {
                row(what + ".logits", i, logits[i])
                row(what + ".probabilities", i, prediction.probabilities[i])
                out += "\(what).label \(i) \(try head.className(label))\n"
            }
        }
        try opinion("fitted", head)
        let kept = try Head(path: root + "/tests/data/golden/head.safetensors")
        try opinion("kept", kept)
        let metrics = try kept.evaluate(features, labels: labels)
        numbers("metrics", metrics.top1, metrics.balanced, metrics.logLoss, metrics.calibrationError)
        let neighbours = try Neighbours.predict(features, among: features, labels: labels, k: 5, temperature: 0.1)
        for (i, label) in neighbours.enumerated() { out += "neighbours \(i) \(label)\n" }
        let container = try Features(of: encoder)
        try container.append(features, labels: labels)
        let nearest = try container.nearest(features, k: 3)
        for i in features.indices {
            out += "nearest \(i) \(nearest.rows[i][0]) \(nearest.rows[i][1]) \(nearest.rows[i][2])\n"
            row("cosines", i, nearest.similarities[i])
        }
        let packed = try PackedFeatures(features, as: .int8)
        for i in features.indices {
            let bytes = packed.data.dropFirst(i * packed.columns).prefix(packed.columns)
            row("scale", i, packed.scales[i...i])
            out += "packed \(i) \(bytes.reduce(0) { $0 + Int(Int8(bitPattern: $1)) })\n"
        }
        let trainer = try Trainer(of: encoder)
        for name in names { try trainer.addClass(name) }
        try trainer.add(features, labels: labels)
        try opinion("taught", trainer.fit().head)
        try opinion("imprinted", trainer.imprint(scale: 10))
        if let path = ProcessInfo.processInfo.environment["BYOL_TEST_GOLDEN"] {
            try out.write(toFile: path, atomically: true, encoding: .utf8)
        }
    }
}
