/// bfloat16: 1 sign bit, 8 exponent bits, 7 significand bits, bias 127 (F1).
///
/// Two ways to compute with it:
///
/// - Static functions that take the rounding mode and an `inout` ``Flags``: the whole of clauses B1-B5. ``add(_:_:rounding:tininess:flags:)``,
///   ``fusedMultiplyAdd(_:_:_:rounding:tininess:flags:)``, ``convert(floatBits:rounding:tininess:flags:)`` ...
/// - Operators and methods of `BinaryFloatingPoint`: the same functions, to nearest with ties to even, the flags dropped.
///
/// Either way the arithmetic is in integers alone. The exact result is rounded once; no floating-point instruction takes part, so no
/// thread state, compiler or processor can change a bit.
///
/// - A NaN that an operation makes is ``nan``, 0x7FC0 (F2); payloads and signs of NaN operands are not carried over. A signalling NaN
///   operand raises invalid. Operations on the sign bit alone (negation, magnitude, copying a sign) change that bit of a NaN too and
///   raise nothing, as IEEE 754 has them.
/// - Subnormals are read and produced exactly as the format has them; nothing is flushed (F4).
/// - Flags are only ever added to what `flags` already holds.
///
/// The operations that can be refused (stochastic rounding of what is no bf16 result, B2) throw ``RefusedRounding``. Nothing traps, except
/// the integer initialisers of the standard library (`Int(x)` for a NaN, say), as for `Float`.
public struct BFloat16: Sendable, BitwiseCopyable {
    /// The 16 bits: sign 15, exponent 14-7, significand 6-0.
    public let bitPattern: UInt16

    /// The value with these bits; every pattern is a value, signalling NaNs included.
    @inlinable
    public init(bitPattern: UInt16) { self.bitPattern = bitPattern }
}

// MARK: Fields

extension BFloat16 {
    @usableFromInline static let signMask: UInt16 = 0x8000
    @usableFromInline static let magnitudeMask: UInt16 = 0x7FFF
    @usableFromInline static let fractionMask: UInt16 = 0x007F
    @usableFromInline static let quietMask: UInt16 = 0x0040
    @usableFromInline static let leastNormalBits: UInt16 = 0x0080
    @usableFromInline static let greatestFiniteBits: UInt16 = 0x7F7F
    @usableFromInline static let infinityBits: UInt16 = 0x7F80
    @usableFromInline static let canonicalNaNBits: UInt16 = 0x7FC0

    /// The unit in the last place of the subnormals and of the smallest normals is 2^-133.
    @usableFromInline static let leastUnitExponent = -133

    @inlinable var isNegative: Bool { bitPattern & Self.signMask != 0 }
    @inlinable var magnitudeBits: UInt16 { bitPattern & Self.magnitudeMask }

    /// |x| = `significandInteger` * 2^`unitExponent` for finite x; a normal number has 128 ... 255 here, a subnormal one 1 ... 127.
    @inlinable var significandInteger: UInt64 {
        let fraction = UInt64(bitPattern & Self.fractionMask)
        return magnitudeBits < Self.leastNormalBits ? fraction : fraction | 0x80
    }

    @inlinable var unitExponent: Int { max(Int(magnitudeBits >> 7), 1) - 134 }

    /// The value with this sign and these magnitude bits.
    @inlinable
    static func signed(_ negative: Bool, _ magnitudeBits: UInt16) -> BFloat16 {
        BFloat16(bitPattern: negative ? magnitudeBits | signMask : magnitudeBits)
    }

    /// The NaN that every operation on a NaN gives, with invalid raised if an operand is signalling (F2).
    @inlinable
    static func propagatedNaN(signalling: Bool, _ flags: inout Flags) -> BFloat16 {
        if signalling { flags.insert(.invalid) }
        return BFloat16(bitPattern: canonicalNaNBits)
    }

    /// The NaN of an operation that has no result (F2).
    @inlinable
    static func invalidOperation(_ flags: inout Flags) -> BFloat16 {
        flags.insert(.invalid)
        return BFloat16(bitPattern: canonicalNaNBits)
    }
}
