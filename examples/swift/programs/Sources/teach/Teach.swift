// Learns classes from folders of pictures, and one more later. The last picture of each folder is kept to see how well.
//
//   swift run -c release teach encoder.onnx head.safetensors cats dogs birds
import Byol
import Foundation

/// Pictures, their features, and their classes.
struct Album {
    var paths: [String] = []
    var features: [Float] = []
    var labels: [Int] = []

    mutating func enrol(_ pictures: [String], as label: Int, with encoder: ImageEncoder) async throws(ByolError) {
        let new = try await encoder.extract(files: pictures.map { URL(fileURLWithPath: $0) })
        paths += pictures
        features += new.values
        labels += pictures.map { _ in label }
    }

    func matrix() throws(ByolError) -> Matrix {
        try Matrix(features, rows: paths.count, columns: features.count / max(1, paths.count))
    }
}

/// Fits a head, keeps it in a file, and judges and uses what the file holds.
func teach(_ names: [String], _ learn: Album, _ held: Album, encoder: ImageEncoder, file: String) async throws(ByolError) {
    let examples = Examples(try learn.matrix(), labels: learn.labels, classNames: names, encoder: encoder)
    try await Head.fit(examples).head.save(path: file)
    let head = try Head(path: file)
    let metrics = try head.evaluate(held.matrix(), labels: held.labels)
    let prediction = try head.predict(held.matrix())
    let right = String(format: "%.3f", metrics.top1)
    print("\(names.count) classes, \(learn.paths.count) pictures learned, \(right) of \(held.paths.count) others right")
    for (i, label) in prediction.labels.enumerated() {
        print("  \(held.paths[i]): \(names[label]) \(String(format: "%.3f", prediction.probabilities[i, label]))")
    }
}

@main
struct Teach {
    static func main() async {
        let arguments = CommandLine.arguments
        guard arguments.count >= 6 else {
            print("usage: teach ENCODER.onnx HEAD.safetensors FOLDER FOLDER FOLDER...")
            exit(2)
        }
        do {
            let encoder = try await ImageEncoder(.path(arguments[1]))
            let folders = Array(arguments[3...])
            var (learn, held) = (Album(), Album())
            for (label, folder) in folders.enumerated() {
                let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
                let paths = names.map { folder + "/" + $0 }
                try await learn.enrol(paths.dropLast(), as: label, with: encoder)
                try await held.enrol(paths.suffix(1), as: label, with: encoder)
                // Without the last class, and with it.
                if label >= folders.count - 2 {
                    try await teach(Array(folders[...label]), learn, held, encoder: encoder, file: arguments[2])
                }
            }
        } catch {
            FileHandle.standardError.write(Data("teach: \(error)\n".utf8))
            exit(1)
        }
    }
}
