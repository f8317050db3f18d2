// Learns classes from folders of pictures, and one more later. The last picture of each folder is kept to see how well.
//
//   swift run -c release teach encoder.onnx head.safetensors cats dogs birds
import Byol
import Foundation

/// The pictures that are kept, their features, and their classes.
struct Album {
    var paths: [String] = []
    var features: [Float] = []
    var labels: [Int] = []

    func matrix() throws(ByolError) -> Matrix {
        try Matrix(features, rows: paths.count, columns: features.count / max(1, paths.count))
    }
}

/// Enrols a folder's pictures as a class of the trainer: all but the last.
func enrol(_ folder: String, in trainer: Trainer, with encoder: ImageEncoder, keeping held: inout Album) async throws {
    let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    let files = names.map { URL(fileURLWithPath: folder + "/" + $0) }
    let label = try trainer.addClass(folder)
    try await trainer.add(
        files: files.dropLast(), labels: files.dropLast().map { _ in label }, with: encoder)
    held.features += try await encoder.extract(files: files.suffix(1)).values
    held.paths += names.suffix(1).map { folder + "/" + $0 }
    held.labels += names.suffix(1).map { _ in label }
}

/// Fits a head to all that was enrolled, keeps it in a file, and judges and uses what the file holds.
func teach(_ trainer: Trainer, file: String, _ held: Album) async throws(ByolError) {
    try await trainer.refit().head.save(path: file)
    let head = try Head(path: file)
    let metrics = try head.evaluate(held.matrix(), labels: held.labels)
    let prediction = try head.predict(held.matrix())
    let info = try trainer.info()
    let right = String(format: "%.3f", metrics.top1)
    print("\(info.classes) classes, \(info.examples) pictures learned, \(right) of \(held.paths.count) others right")
    for (i, label) in prediction.labels.enumerated() {
        let name = try trainer.classInfo(label).name
        print("  \(held.paths[i]): \(name) \(String(format: "%.3f", prediction.probabilities[i, label]))")
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
            let trainer = try Trainer(of: encoder)
            let folders = Array(arguments[3...])
            var held = Album()
            for (i, folder) in folders.enumerated() {
                try await enrol(folder, in: trainer, with: encoder, keeping: &held)
                // Without the last class, and with it.
                if i >= folders.count - 2 { try await teach(trainer, file: arguments[2], held) }
            }
        } catch {
            FileHandle.standardError.write(Data("teach: \(error)\n".utf8))
            exit(1)
        }
    }
}
