import CByol
import Foundation

/// Pixels in memory, read where they lie: nothing is copied.
public struct Picture: Sendable {
    /// How pixels lie in memory. Alpha is ignored; colours are those without it, not premultiplied.
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

        /// Bytes of a pixel.
        public var bytesPerPixel: Int {
            switch self {
            case .gray8: 1
            case .rgb8, .bgr8: 3
            case .rgba8, .bgra8, .rgbx8: 4
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
    let storage: Storage

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
