import CVector

/// Sixteen lanes: the registers of every instruction set hold them, one or several.
typealias Vector = SIMD16<Float>

enum Widening {
    /// bf16 to fp32, exactly.
    @inline(__always)
    static func widen(_ source: UnsafePointer<UInt16>, _ destination: UnsafeMutablePointer<Float>, _ count: Int) {
        var i = 0
        while i &+ 16 <= count {
            ts_store(destination + i, ts_load_bf16(source + i))
            i &+= 16
        }
        while i < count {
            destination[i] = widened(source[i])
            i &+= 1
        }
    }

    @inline(__always)
    static func widened(_ bits: UInt16) -> Float { Float(bitPattern: UInt32(bits) << 16) }
}
