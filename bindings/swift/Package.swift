// swift-tools-version: 6.0
// libbyol in Swift: docs/swift-guide.md says how to build with it.
import Foundation
import PackageDescription

// On Apple's systems the C library comes as an XCFramework, which xcframework.sh makes in this folder; elsewhere from
// where pkg-config finds byol.pc.
let framework = "byol.xcframework"
let hasFramework = FileManager.default.fileExists(atPath: Context.packageDirectory + "/" + framework)
let library: Target =
    hasFramework ? .binaryTarget(name: "CByol", path: framework) : .systemLibrary(name: "CByol", pkgConfig: "byol")

let package = Package(
    name: "byol",
    platforms: [.macOS(.v13), .iOS(.v16), .macCatalyst(.v16), .visionOS(.v1)],
    products: [.library(name: "Byol", targets: ["Byol"])],
    targets: [
        library,
        .target(name: "Byol", dependencies: ["CByol"]),
        .testTarget(name: "ByolTests", dependencies: ["Byol", "CByol"]),
    ],
    swiftLanguageModes: [.v6]
)
