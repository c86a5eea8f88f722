/// A picture as a PNG file (ISO/IEC 15948), 8 bits a channel, without compression: nothing but this is needed to look at a mask.
public struct PNG {
    public let width: Int
    public let height: Int
    /// Red, green and blue of each pixel, rows from the top.
    private var pixels: [UInt8]

    /// All white.
    public init(width: Int, height: Int) {
        self.width = width
        self.height = height
        pixels = [UInt8](repeating: 0xFF, count: 3 * width * height)
    }

    /// Fills the part of a rectangle that lies in the picture.
    public mutating func fill(x: Int, y: Int, width: Int, height: Int, _ colour: (UInt8, UInt8, UInt8)) {
        for row in max(0, y)..<max(0, y, min(self.height, y + height)) {
            for column in max(0, x)..<max(0, x, min(self.width, x + width)) {
                let index = 3 * (row * self.width + column)
                (pixels[index], pixels[index + 1], pixels[index + 2]) = colour
            }
        }
    }

    /// The file.
    public var bytes: [UInt8] {
        var header: [UInt8] = Self.big(UInt32(width)) + Self.big(UInt32(height))
        header += [8, 2, 0, 0, 0]
        // Each row begins with its filter: none.
        var raw: [UInt8] = []
        raw.reserveCapacity(height * (3 * width + 1))
        for row in 0..<height {
            raw.append(0)
            raw += pixels[3 * row * width..<3 * (row + 1) * width]
        }
        return [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A] + Self.chunk("IHDR", header)
            + Self.chunk("IDAT", Self.stored(raw)) + Self.chunk("IEND", [])
    }

    /// zlib's format (RFC 1950) with stored blocks (RFC 1951).
    private static func stored(_ data: [UInt8]) -> [UInt8] {
        var result: [UInt8] = [0x78, 0x01]
        var start = 0
        repeat {
            let count = min(65_535, data.count - start)
            result.append(start + count == data.count ? 1 : 0)
            for length in [UInt16(count), ~UInt16(count)] {
                result += [UInt8(truncatingIfNeeded: length), UInt8(length >> 8)]
            }
            result += data[start..<start + count]
            start += count
        } while start < data.count
        var (a, b): (UInt32, UInt32) = (1, 0)
        for byte in data {
            a = (a + UInt32(byte)) % 65_521
            b = (b + a) % 65_521
        }
        return result + big(b << 16 | a)
    }

    private static func chunk(_ name: String, _ data: [UInt8]) -> [UInt8] {
        let body = Array(name.utf8) + data
        var crc: UInt32 = 0xFFFF_FFFF
        for byte in body {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
        }
        return big(UInt32(data.count)) + body + big(~crc)
    }

    private static func big(_ value: UInt32) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> UInt32($0)) }
    }
}
