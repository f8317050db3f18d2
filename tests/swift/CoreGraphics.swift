// Stands in for Apple's CoreGraphics where tests/swift/run.sh checks the types of what `canImport(CoreGraphics)` guards: the
// few declarations that the package uses, as Apple documents them. It says nothing of what they do.
public final class CGColorSpace: Sendable {
    public static let sRGB = "kCGColorSpaceSRGB"
    public static let genericGrayGamma2_2 = "kCGColorSpaceGenericGrayGamma2_2"
    public enum Model: Sendable { case unknown, monochrome, rgb, cmyk, lab, deviceN, indexed, pattern, xyz }
    public var model: CGColorSpaceModel { .rgb }
    public init?(name: String) {}
}
public typealias CGColorSpaceModel = CGColorSpace.Model

public enum CGImageAlphaInfo: UInt32, Sendable {
    case none, premultipliedLast, premultipliedFirst, last, first, noneSkipLast, noneSkipFirst, alphaOnly
}

public final class CGImage: Sendable {
    public var width: Int { 0 }
    public var height: Int { 0 }
    public var alphaInfo: CGImageAlphaInfo { .none }
    public var colorSpace: CGColorSpace? { nil }
}

public struct CGRect: Sendable {
    public init(x: Int, y: Int, width: Int, height: Int) {}
}

public final class CGContext {
    public init?(
        data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int, space: CGColorSpace,
        bitmapInfo: UInt32
    ) {}
    public func draw(_ image: CGImage, in rect: CGRect) {}
}
