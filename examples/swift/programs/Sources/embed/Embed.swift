// Pictures in, features and nearest neighbours out. Run, where libbyol is installed:
//
//   swift run -c release embed encoder.onnx a.jpg b.png c.webp
import Byol
import Foundation

func cosine(_ a: ArraySlice<Float>, _ b: ArraySlice<Float>) -> Double {
    var (ab, aa, bb) = (0.0, 0.0, 0.0)
    for (x, y) in zip(a, b) {
        ab += Double(x) * Double(y)
        aa += Double(x) * Double(x)
        bb += Double(y) * Double(y)
    }
    return ab / (aa * bb).squareRoot()
}

@main
struct Embed {
    static func main() async {
        let arguments = CommandLine.arguments
        guard arguments.count >= 4 else {
            print("usage: embed ENCODER.onnx PICTURE PICTURE...")
            exit(2)
        }
        do {
            try await embed(model: arguments[1], paths: Array(arguments[2...]))
        } catch {
            FileHandle.standardError.write(Data("embed: \(error)\n".utf8))
            exit(1)
        }
    }

    static func embed(model: String, paths: [String]) async throws(ByolError) {
        let encoder = try await ImageEncoder(.path(model))
        let features = try await encoder.extract(files: paths.map { URL(fileURLWithPath: $0) })
        print("\(features.rows) pictures, \(features.columns) features each")
        for (i, path) in paths.enumerated() {
            let first = features[i].prefix(4).map { String(format: "%.4f", $0) }
            print("\(path): \(first.joined(separator: " "))")
            let others = features.indices.filter { $0 != i }
            // The first of the largest: max takes the last.
            let nearest = others.reversed().max { cosine(features[i], features[$0]) < cosine(features[i], features[$1]) }
            guard let nearest else { continue }
            print("  nearest: \(paths[nearest]), cosine \(String(format: "%.4f", cosine(features[i], features[nearest])))")
        }
    }
}
