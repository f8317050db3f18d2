import CByol
import Foundation

/// Pixels in memory, read where they lie: nothing is copied.
public struct Picture: Sendable {
    /// How pixels lie in memory. Alpha is ignored, but for `isPremultiplied`.
    public enum Format: UInt32, Sendable, CaseIterable {
        /// 1 byte, luminance.
        case gray8 = 1
        /// 3 bytes: red, green, blue.
        case rgb8
        /// 3 bytes: blue, green, red.
        case bgr8
        /// 4 bytes: red, green, blue, alpha.
        case rgba8
        /// 4 bytes: blue, green, red, alpha.
        case bgra8
        /// 4 bytes: red, green, blue, and one without meaning.
        case rgbx8
        /// 2 bytes in the machine's order, luminance.
        case gray16
        /// Red, green, blue of 2 bytes each in the machine's order.
        case rgb16
        /// Red, green, blue as `Float` from 0 to 1.
        case rgbFloat
        /// The same in three planes.
        case rgbFloatPlanar
        /// YCbCr 4:2:0 of cameras in two planes, BT.601 in video range.
        case nv12
        /// The same in full range.
        case nv12Full

        /// Bytes of a pixel; of the first plane, where there are several.
        public var bytesPerPixel: Int {
            switch self {
            case .gray8, .nv12, .nv12Full: 1
            case .gray16: 2
            case .rgb8, .bgr8: 3
            case .rgba8, .bgra8, .rgbx8, .rgbFloatPlanar: 4
            case .rgb16: 6
            case .rgbFloat: 12
            }
        }
    }

    enum Storage: Sendable {
        case array([UInt8])
        case data(Data)
        case lent(Lent)
    }

    /// Memory whose owner promised to keep it, and to leave it alone, until the calls that read it have returned.
    struct Lent: @unchecked Sendable {
        let bytes: UnsafeRawBufferPointer
    }

    /// How the pixels lie in memory.
    public let format: Format
    /// Width in pixels, 1 to 65535.
    public let width: Int
    /// Height in pixels, 1 to 65535.
    public let height: Int
    /// Bytes from one row to the next; 0 for rows without gaps.
    public let bytesPerRow: Int
    /// Whether colours are multiplied by their alpha; they are divided before they are used.
    public var isPremultiplied = false
    /// How the picture has to be mirrored and turned to stand upright, as EXIF numbers it, 1 to 8: 6 is a quarter
    /// clockwise.
    public var orientation = 1
    /// The part that counts, in pixels, before `orientation`; nil for all of it.
    public var region: Region?
    let storage: Storage

    /// A part of a picture.
    public struct Region: Sendable, Hashable {
        /// Left upper corner.
        public var x: Int, y: Int
        /// Size in pixels.
        public var width: Int, height: Int

        /// A part by its left upper corner and size.
        public init(x: Int, y: Int, width: Int, height: Int) {
            (self.x, self.y, self.width, self.height) = (x, y, width, height)
        }
    }

    /// Pixels in an array. What can't be a picture is refused by the encoder.
    public init(_ pixels: [UInt8], width: Int, height: Int, format: Format, bytesPerRow: Int = 0) {
        self.init(.array(pixels), width, height, format, bytesPerRow)
    }

    /// Pixels in a `Data`.
    public init(_ pixels: Data, width: Int, height: Int, format: Format, bytesPerRow: Int = 0) {
        self.init(.data(pixels), width, height, format, bytesPerRow)
    }

    /// Pixels in memory of somebody else's, such as a locked pixel buffer. It must stay, and stay as it is, until every
    /// call that was given the picture has returned.
    public init(
        unsafePixels: UnsafeRawBufferPointer, width: Int, height: Int, format: Format, bytesPerRow: Int = 0
    ) {
        self.init(.lent(Lent(bytes: unsafePixels)), width, height, format, bytesPerRow)
    }

    private init(_ storage: Storage, _ width: Int, _ height: Int, _ format: Format, _ bytesPerRow: Int) {
        (self.storage, self.width, self.height, self.format, self.bytesPerRow) = (storage, width, height, format, bytesPerRow)
    }

    func withBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
        switch storage {
        case .array(let bytes): bytes.withUnsafeBytes(body)
        case .data(let bytes): bytes.withUnsafeBytes(body)
        case .lent(let memory): body(memory.bytes)
        }
    }

    func c(_ bytes: UnsafeRawBufferPointer) -> byol_image {
        var image = byol_image.started()
        image.format = format.rawValue
        // What no uint32_t holds becomes a side that libbyol refuses.
        (image.width, image.height) = (UInt32(exactly: width) ?? 0, UInt32(exactly: height) ?? 0)
        image.stride = Int(bitPattern: UInt(bitPattern: bytesPerRow))
        image.data = bytes.assumingMemoryBound(to: UInt8.self).baseAddress
        image.data_len = bytes.count
        image.alpha = UInt32(isPremultiplied ? BYOL_ALPHA_PREMULTIPLIED : BYOL_ALPHA_STRAIGHT)
        // What is no orientation, or no number of pixels, becomes one that libbyol refuses.
        image.orientation = UInt32(exactly: orientation) ?? .max
        if let region {
            (image.region_x, image.region_y) = (UInt32(exactly: region.x) ?? .max, UInt32(exactly: region.y) ?? .max)
            image.region_width = UInt32(exactly: max(region.width, 0)) ?? .max
            image.region_height = UInt32(exactly: max(region.height, 0)) ?? .max
            if region.width <= 0 || region.height <= 0 { image.region_x = .max }
        }
        return image
    }

    /// Divides colours by their alpha, in pixels of red, green, blue, alpha, as `Color` conversions of 16 bits do. Where
    /// alpha is 0 there is no colour, and it becomes black.
    static func unpremultiply(_ pixels: inout [UInt8]) {
        for start in stride(from: 0, to: pixels.count - pixels.count % 4, by: 4) {
            let alpha = UInt32(pixels[start + 3]) * 0x101
            if alpha == 0xffff { continue }
            for channel in start..<start + 3 {
                let value = UInt32(pixels[channel]) * 0x101
                pixels[channel] = alpha == 0 ? 0 : UInt8(min(value * 0xffff / alpha, 0xffff) >> 8)
            }
        }
    }
}

/// Lends the bytes of all items at once. Nests, and so takes some stack for every item: callers give at most
/// `itemsPerCall` of them.
func withAllBytes<Items: Collection, Result>(
    _ items: Items, access: @escaping (Items.Element, (UnsafeRawBufferPointer) -> Void) -> Void,
    _ body: ([UnsafeRawBufferPointer]) -> Result
) -> Result {
    var buffers: [UnsafeRawBufferPointer] = []
    buffers.reserveCapacity(items.count)
    var result: Result?
    func lend(_ index: Items.Index) {
        if index == items.endIndex {
            result = body(buffers)
            return
        }
        access(items[index]) {
            buffers.append($0)
            lend(items.index(after: index))
        }
    }
    lend(items.startIndex)
    // Every access calls its body once, so that lend has come to the end.
    return result!
}

let itemsPerCall = 256

/// What the header of an encoded picture says.
public struct PictureInfo: Sendable, Hashable {
    /// Width in pixels, once it stands upright.
    public let width: Int
    /// Height in pixels, once it stands upright.
    public let height: Int
    /// 1 (gray) or 3 (red, green, blue).
    public let channels: Int
    /// Bits of a channel in the file.
    public let bits: Int
    /// Whether the file has an alpha channel, which is ignored.
    public let hasAlpha: Bool
    /// EXIF's orientation, 1 to 8, which `extract(encoded:)` obeys.
    public let orientation: Int
    /// "jpeg", "png", "webp", "bmp", "gif" or "tiff".
    public let format: String

    /// Reads the header of an encoded picture. Its pixels are not decoded, so they may still turn out to be damaged.
    public init(encoded file: some ContiguousBytes) throws(ByolError) {
        try checkCompatible()
        var info = byol_image_info.started()
        try attempt { error in
            file.withUnsafeBytes { bytes in
                // No bytes are no picture, which is another mistake than no pointer.
                var nothing: UInt8 = 0
                return withUnsafePointer(to: &nothing) {
                    byol_image_probe(bytes.assumingMemoryBound(to: UInt8.self).baseAddress ?? $0, bytes.count, &info, error)
                }
            }
        }
        (width, height, channels) = (Int(info.width), Int(info.height), Int(info.channels))
        (bits, hasAlpha, orientation) = (Int(info.bits), info.has_alpha != 0, Int(info.orientation))
        format = string(info.format)
    }
}
