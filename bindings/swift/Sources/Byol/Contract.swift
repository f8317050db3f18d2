import CByol

/// How a picture becomes an encoder's input. Model files that byol exported say it themselves.
public struct Contract: Sendable, Hashable {
    /// How a picture is brought to the input's size.
    public enum Resize: Sendable, Hashable {
        /// To exactly the input's size.
        case stretch
        /// The short side to so many pixels, then the centre is cut out.
        case shortSide(Int)
    }

    /// How pixels are blended; both are antialiased.
    public enum Filter: UInt32, Sendable {
        /// Triangle.
        case bilinear = 1
        /// Cubic with a = -0.5.
        case bicubic = 2
    }

    /// Input channels: 1 (gray) or 3 (red, green, blue).
    public var channels: Int
    /// Input height in pixels.
    public var height: Int
    /// Input width in pixels.
    public var width: Int
    /// How a picture is brought to that size.
    public var resize: Resize
    /// How pixels are blended.
    public var filter: Filter
    /// Mean of each channel, of values scaled to 0 to 1; at most four.
    public var mean: [Float]
    /// Standard deviation of each channel, of values scaled to 0 to 1; at most four.
    public var deviation: [Float]

    /// A contract of all its parts.
    public init(
        channels: Int, height: Int, width: Int, resize: Resize, filter: Filter, mean: [Float], deviation: [Float]
    ) {
        (self.channels, self.height, self.width) = (channels, height, width)
        (self.resize, self.filter, self.mean, self.deviation) = (resize, filter, mean, deviation)
    }

    init(_ info: byol_encoder_info) {
        (channels, height, width) = (Int(info.channels), Int(info.height), Int(info.width))
        resize = info.resize == UInt32(BYOL_RESIZE_SHORT_SIDE) ? .shortSide(Int(info.resize_size)) : .stretch
        filter = Filter(rawValue: info.filter) ?? .bilinear
        let given = min(channels, 4)
        mean = Array([info.mean.0, info.mean.1, info.mean.2, info.mean.3].prefix(given))
        deviation = Array([info.deviation.0, info.deviation.1, info.deviation.2, info.deviation.3].prefix(given))
    }

    func c() throws(ByolError) -> byol_contract {
        guard mean.count <= 4, deviation.count <= 4 else {
            throw ByolError(.invalidArgument, "mean and deviation have \(mean.count) and \(deviation.count) values, at most 4 fit")
        }
        var contract = byol_contract.started()
        contract.channels = try unsigned(channels, "channels")
        contract.height = try unsigned(height, "height")
        contract.width = try unsigned(width, "width")
        switch resize {
        case .stretch:
            contract.resize = UInt32(BYOL_RESIZE_STRETCH)
        case .shortSide(let pixels):
            contract.resize = UInt32(BYOL_RESIZE_SHORT_SIDE)
            contract.resize_size = try unsigned(pixels, "the short side")
        }
        contract.filter = filter.rawValue
        let m = mean + Array(repeating: 0, count: 4 - mean.count)
        let d = deviation + Array(repeating: 0, count: 4 - deviation.count)
        (contract.mean, contract.deviation) = ((m[0], m[1], m[2], m[3]), (d[0], d[1], d[2], d[3]))
        return contract
    }
}
