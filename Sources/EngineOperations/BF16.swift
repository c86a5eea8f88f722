import Cases
import Goldens
import Kernels

let bf16Operations: [(String, EngineCatalog.Compute)] = [
    ("bf16.add", binary(BF16Arithmetic.add)),
    ("bf16.sub", binary(BF16Arithmetic.subtract)),
    ("bf16.mul", binary(BF16Arithmetic.multiply)),
    ("bf16.div", binary(BF16Arithmetic.divide)),
    ("bf16.rem", binary { a, b, _, _, flags in BF16Arithmetic.remainder(a, b, &flags) }),
    ("bf16.minimum", extreme(largest: false, prefersNumber: false)),
    ("bf16.maximum", extreme(largest: true, prefersNumber: false)),
    ("bf16.minimumNumber", extreme(largest: false, prefersNumber: true)),
    ("bf16.maximumNumber", extreme(largest: true, prefersNumber: true)),
    ("bf16.sqrt", unary { a, mode, flags in BF16Arithmetic.squareRoot(a, mode, &flags) }),
    ("bf16.roundToIntegral", unary { a, mode, flags in BF16Arithmetic.roundToIntegral(a, mode, &flags) }),
    ("bf16.nextUp", unary { a, _, flags in BF16Arithmetic.next(a, up: true, &flags) }),
    ("bf16.nextDown", unary { a, _, flags in BF16Arithmetic.next(a, up: false, &flags) }),
    ("bf16.fma", fusedMultiplyAdd), ("bf16.compare", compare), ("bf16.from", convertFrom), ("bf16.to", convertTo),
]

/// Each element's rounding.
private struct Rounding {
    let name: String
    /// Of `sr` alone (B2).
    let random: [UInt16]

    init(_ given: CheckedCase) {
        name = given.choice("rounding")
        random = given.integers("random", UInt16.self)
    }

    subscript(index: Int) -> BF16Arithmetic.Rounding {
        BF16Arithmetic.Rounding(name: name, random: random.isEmpty ? 0 : random[index]) ?? .rne
    }
}

private typealias Binary =
    @Sendable (UInt16, UInt16, BF16Arithmetic.Rounding, Bool, inout UInt8) -> UInt16

private func binary(_ function: @escaping Binary) -> EngineCatalog.Compute {
    { question in
        let (a, b) = (question.given.bf16("a"), question.given.bf16("b"))
        let rounding = Rounding(question.given)
        let tininessBefore = question.given.choice("tininess") == "before"
        return elementwise(a.count) { index, flags in
            function(a[index], b[index], rounding[index], tininessBefore, &flags)
        }
    }
}

private func extreme(largest: Bool, prefersNumber: Bool) -> EngineCatalog.Compute {
    binary { a, b, _, _, flags in
        BF16Arithmetic.extreme(a, b, largest: largest, prefersNumber: prefersNumber, &flags)
    }
}

private func unary(
    _ function: @escaping @Sendable (UInt16, BF16Arithmetic.Rounding, inout UInt8) -> UInt16
) -> EngineCatalog.Compute {
    { question in
        let a = question.given.bf16("a")
        let rounding = Rounding(question.given)
        return elementwise(a.count) { index, flags in function(a[index], rounding[index], &flags) }
    }
}

private func fusedMultiplyAdd(_ question: EngineQuestion) throws -> CaseResult {
    let given = question.given
    let (a, b, c) = (given.bf16("a"), given.bf16("b"), given.bf16("c"))
    let rounding = Rounding(given)
    return elementwise(a.count) { index, flags in
        BF16Arithmetic.fusedMultiplyAdd(a[index], b[index], c[index], rounding[index], &flags)
    }
}

private func elementwise(_ count: Int, _ apply: (Int, inout UInt8) -> UInt16) -> CaseResult {
    var (bits, raised): ([UInt16], [UInt8]) = ([], [])
    for index in 0..<count {
        var flags: UInt8 = 0
        bits.append(apply(index, &flags))
        raised.append(flags)
    }
    var result = CaseResult()
    result.output("r", bf16: bits, [count])
    result.output("flags", Tensor(raised, shape: [count]))
    return result
}

private func compare(_ question: EngineQuestion) throws -> CaseResult {
    let (a, b) = (question.given.bf16("a"), question.given.bf16("b"))
    let signalling = question.given.flag("signalling")
    var (relations, raised): ([UInt8], [UInt8]) = ([], [])
    for index in a.indices {
        var flags: UInt8 = 0
        relations.append(BF16Arithmetic.compare(a[index], b[index], signalling: signalling, &flags))
        raised.append(flags)
    }
    var result = CaseResult()
    result.output("r", Tensor(relations, shape: [a.count]))
    result.output("flags", Tensor(raised, shape: [a.count]))
    return result
}

private func convertFrom(_ question: EngineQuestion) throws -> CaseResult {
    let type: ElementType = question.given.choice("source")
    let tensor = question.given.tensor("a")
    let rounding = Rounding(question.given)
    return elementwise(tensor.count) { index, flags in
        let bits = tensor.bits(at: index)
        let mode = rounding[index]
        switch type {
        case .fp16:
            let magnitude = bits & 0x7FFF
            let isSignalling = magnitude > 0x7C00 && bits & 0x200 == 0
            return BF16Arithmetic.fromDouble(half(UInt16(bits)), isSignalling: isSignalling, mode, &flags)
        case .fp32:
            let isSignalling = bits & 0x7FFF_FFFF > 0x7F80_0000 && bits & 0x40_0000 == 0
            return BF16Arithmetic.fromDouble(
                Double(Float(bitPattern: UInt32(bits))), isSignalling: isSignalling, mode, &flags)
        case .fp64:
            let isSignalling = bits & 0x7FFF_FFFF_FFFF_FFFF > 0x7FF0_0000_0000_0000 && bits & 0x8_0000_0000_0000 == 0
            return BF16Arithmetic.fromDouble(Double(bitPattern: bits), isSignalling: isSignalling, mode, &flags)
        default:
            let isSigned = type.rawValue.hasPrefix("int")
            let width = 8 * type.byteWidth
            let isNegative = isSigned && bits >> UInt64(width - 1) & 1 == 1
            let extended = isNegative && width < 64 ? bits | ~0 << UInt64(width) : bits
            let magnitude = isNegative ? 0 &- extended : extended
            return BF16Arithmetic.fromInteger(magnitude, isNegative: isNegative, mode, &flags)
        }
    }
}

/// binary16 as binary64.
private func half(_ bits: UInt16) -> Double {
    let exponent = Int(bits >> 10 & 31)
    let fraction = Double(bits & 0x3FF)
    let magnitude =
        exponent == 31
        ? (fraction == 0 ? Double.infinity : .nan)
        : exponent == 0
            ? fraction * 0x1p-24 : Double(sign: .plus, exponent: exponent - 15, significand: 1 + fraction / 1024)
    return bits & 0x8000 == 0 ? magnitude : -magnitude
}

private func convertTo(_ question: EngineQuestion) throws -> CaseResult {
    let type: ElementType = question.given.choice("target")
    let a = question.given.bf16("a")
    let mode = BF16Arithmetic.Rounding(name: question.given.choice("rounding")) ?? .rne
    var bytes: [UInt8] = []
    var raised: [UInt8] = []
    for x in a {
        var flags: UInt8 = 0
        let bits: UInt64
        let isNaN = x & 0x7FFF > 0x7F80
        if isNaN && x & 0x40 == 0 { flags |= BF16Arithmetic.invalid }
        switch type {
        case .fp16:
            flags = 0
            bits = UInt64(BF16Arithmetic.toHalf(x, mode, &flags))
        case .fp32: bits = isNaN ? 0x7FC0_0000 : UInt64(x) << 16
        case .fp64:
            bits = isNaN ? 0x7FF8_0000_0000_0000 : Double(Float(bitPattern: UInt32(x) << 16)).bitPattern
        default:
            bits = BF16Arithmetic.toInteger(
                x, bits: 8 * type.byteWidth, signed: type.rawValue.hasPrefix("int"), mode, &flags)
        }
        for byte in 0..<type.byteWidth { bytes.append(UInt8(truncatingIfNeeded: bits >> (8 * UInt64(byte)))) }
        raised.append(flags)
    }
    var result = CaseResult()
    result.output("r", try Tensor(type: type, shape: [a.count], bytes: bytes))
    result.output("flags", Tensor(raised, shape: [a.count]))
    return result
}
