#if canImport(CoreGraphics)
    import CoreGraphics

    extension Picture {
        /// The pixels of a `CGImage`, drawn once: gray where it is gray without alpha, else sRGB. Colours with alpha are
        /// those without it, as in pictures that libbyol decodes itself.
        public init(_ image: CGImage) throws(ByolError) {
            let (width, height) = (image.width, image.height)
            guard 1...65535 ~= width, 1...65535 ~= height else {
                throw ByolError(.invalidArgument, "a CGImage of \(width) x \(height) pixels is no picture")
            }
            let hasAlpha = ![.none, .noneSkipFirst, .noneSkipLast].contains(image.alphaInfo)
            let isGray = !hasAlpha && image.colorSpace?.model == .monochrome
            let space = CGColorSpace(name: isGray ? CGColorSpace.genericGrayGamma2_2 : CGColorSpace.sRGB)
            let format: Format = isGray ? .gray8 : .rgba8
            let info: CGImageAlphaInfo = isGray ? .none : .premultipliedLast
            var pixels = [UInt8](repeating: 0, count: width * height * format.bytesPerPixel)
            let drawn = pixels.withUnsafeMutableBytes { memory in
                guard let space,
                    let context = CGContext(
                        data: memory.baseAddress, width: width, height: height, bitsPerComponent: 8,
                        bytesPerRow: width * format.bytesPerPixel, space: space, bitmapInfo: info.rawValue)
                else { return false }
                context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
                return true
            }
            guard drawn else { throw ByolError(.noMemory, "no room to draw \(width) x \(height) pixels") }
            if hasAlpha { Self.unpremultiply(&pixels) }
            self.init(pixels, width: width, height: height, format: format)
        }
    }
#endif
