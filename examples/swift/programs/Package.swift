// swift-tools-version: 6.0
import PackageDescription

let byol = Target.Dependency.product(name: "Byol", package: "swift")

let package = Package(
    name: "examples",
    platforms: [.macOS(.v13)],
    // In a checkout; elsewhere, where the package was put. (This folder is called otherwise than that one, whose name is its
    // identity.)
    dependencies: [.package(path: "../../../bindings/swift")],
    targets: [
        .executableTarget(name: "embed", dependencies: [byol]),
        .executableTarget(name: "teach", dependencies: [byol]),
    ]
)
