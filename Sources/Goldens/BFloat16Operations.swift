import BFloat16
import Cases
import ModelSpec

// The operations `bf16.*`: clauses B1-B5. Elementwise: [n] in, [n] out, with the flags each element raises.

let bfloat16Operations: [Operation] =
    [
        binary("bf16.add") { a, b, mode, tininess, flags in
            BFloat16.add(a, b, rounding: mode, tininess: tininess, flags: &flags)
        },
        binary("bf16.sub") { a, b, mode, tininess, flags in
            BFloat16.subtract(a, b, rounding: mode, tininess: tininess, flags: &flags)
        },
        binary("bf16.mul") { a, b, mode, tininess, flags in
            BFloat16.multiply(a, b, rounding: mode, tininess: tininess, flags: &flags)
        },
        binary("bf16.div") { a, b, mode, tininess, flags in
            BFloat16.divide(a, b, rounding: mode, tininess: tininess, flags: &flags)
        },
        binary("bf16.rem") { a, b, _, _, flags in BFloat16.remainder(a, b, flags: &flags) },
        binary("bf16.minimum") { a, b, _, _, flags in BFloat16.minimum(a, b, flags: &flags) },
        binary("bf16.maximum") { a, b, _, _, flags in BFloat16.maximum(a, b, flags: &flags) },
        binary("bf16.minimumNumber") { a, b, _, _, flags in BFloat16.minimumNumber(a, b, flags: &flags) },
        binary("bf16.maximumNumber") { a, b, _, _, flags in BFloat16.maximumNumber(a, b, flags: &flags) },
        unary("bf16.sqrt") { a, mode, flags in BFloat16.squareRoot(a, rounding: mode, flags: &flags) },
        unary("bf16.roundToIntegral") { a, mode, flags in
            try BFloat16.roundToIntegral(a, rounding: mode, flags: &flags)
        },
        unary("bf16.nextUp") { a, _, flags in BFloat16.nextUp(a, flags: &flags) },
        unary("bf16.nextDown") { a, _, flags in BFloat16.nextDown(a, flags: &flags) },
        fusedMultiplyAdd, compare, convertFrom, convertTo,
    ]

/// The rounding mode of each element: the recipe's, with the element's own random bits under SR.
private struct ElementRounding {
    let name: String
    let random: [UInt16]

    init(_ given: CheckedCase) {
        name = given.choice("rounding")
        random = given.integers("random")
    }

    func mode(at index: Int) -> RoundingMode {
        RoundingMode(name: name, random: name == "sr" ? random[index] : 0)!
    }
}

private func binary(
    _ name: String,
    _ apply: @escaping @Sendable (BFloat16, BFloat16, RoundingMode, Tininess, inout Flags) -> BFloat16
) -> Operation {
    Operation(name) { given in
        let (a, b) = (given.bf16("a"), given.bf16("b"))
        let rounding = ElementRounding(given)
        let tininess = given.choice("tininess", Tininess.self)
        return elementwise(count: a.count) { index, flags in
            apply(
                BFloat16(bitPattern: a[index]), BFloat16(bitPattern: b[index]), rounding.mode(at: index), tininess,
                &flags)
        }
    }
}

private func unary(
    _ name: String, _ apply: @escaping @Sendable (BFloat16, RoundingMode, inout Flags) throws -> BFloat16
) -> Operation {
    Operation(name) { given in
        let a = given.bf16("a")
        let rounding = ElementRounding(given)
        return try elementwise(count: a.count) { index, flags in
            try apply(BFloat16(bitPattern: a[index]), rounding.mode(at: index), &flags)
        }
    }
}

private let fusedMultiplyAdd = Operation("bf16.fma") { given in
    let a = given.bf16("a")
    let b = given.bf16("b")
    let c = given.bf16("c")
    let rounding = ElementRounding(given)
    return elementwise(count: a.count) { index, flags in
        BFloat16.fusedMultiplyAdd(
            BFloat16(bitPattern: a[index]), BFloat16(bitPattern: b[index]), BFloat16(bitPattern: c[index]),
            rounding: rounding.mode(at: index), flags: &flags)
    }
}

private let compare = Operation("bf16.compare") { given in
    let a = given.bf16("a")
    let b = given.bf16("b")
    let signalling = given.flag("signalling")
    var relations: [UInt8] = []
    var raised: [UInt8] = []
    for index in a.indices {
        var flags: Flags = []
        relations.append(
            BFloat16.compare(
                BFloat16(bitPattern: a[index]), BFloat16(bitPattern: b[index]), signalling: signalling, flags: &flags))
        raised.append(flags.rawValue)
    }
    var result = CaseResult()
    result.output("r", Tensor(relations, shape: [a.count]))
    result.output("flags", Tensor(raised, shape: [a.count]))
    return result
}

private let convertFrom = Operation("bf16.from") { given in
    let source = given.choice("source", ConversionType.self)
    let tensor = given.tensor("a")
    let rounding = ElementRounding(given)
    return elementwise(count: tensor.count) { index, flags in
        let bits = tensor.bits(at: index)
        let mode = rounding.mode(at: index)
        switch source {
        case .fp16: return BFloat16.convert(float16Bits: UInt16(bits), rounding: mode, flags: &flags)
        case .fp32: return BFloat16.convert(floatBits: UInt32(bits), rounding: mode, flags: &flags)
        case .fp64: return BFloat16.convert(doubleBits: bits, rounding: mode, flags: &flags)
        case .int8:
            return BFloat16.convert(Int8(truncatingIfNeeded: bits), rounding: mode, flags: &flags)
        case .int16:
            return BFloat16.convert(Int16(truncatingIfNeeded: bits), rounding: mode, flags: &flags)
        case .int32:
            return BFloat16.convert(Int32(truncatingIfNeeded: bits), rounding: mode, flags: &flags)
        case .int64:
            return BFloat16.convert(Int64(truncatingIfNeeded: bits), rounding: mode, flags: &flags)
        case .uint8: return BFloat16.convert(UInt8(bits), rounding: mode, flags: &flags)
        case .uint16: return BFloat16.convert(UInt16(bits), rounding: mode, flags: &flags)
        case .uint32: return BFloat16.convert(UInt32(bits), rounding: mode, flags: &flags)
        case .uint64: return BFloat16.convert(bits, rounding: mode, flags: &flags)
        }
    }
}

private let convertTo = Operation("bf16.to") { given in
    let target = given.choice("target", ConversionType.self)
    let a = given.bf16("a")
    let rounding = ElementRounding(given)
    var result = CaseResult()
    switch target {
    case .fp16:
        try result.conversion(a, UInt16.self) {
            try BFloat16.toFloat16Bits($0, rounding: rounding.mode(at: $1), flags: &$2)
        } as: {
            Tensor(fp16: $0, shape: $1)
        }
    case .fp32:
        try result.conversion(a, UInt32.self) { x, _, flags in
            BFloat16.toFloatBits(x, flags: &flags)
        } as: {
            Tensor(fp32: $0, shape: $1)
        }
    case .fp64:
        try result.conversion(a, UInt64.self) { x, _, flags in
            BFloat16.toDoubleBits(x, flags: &flags)
        } as: {
            Tensor(fp64: $0, shape: $1)
        }
    case .int8: try result.conversion(a, to: Int8.self, rounding)
    case .int16: try result.conversion(a, to: Int16.self, rounding)
    case .int32: try result.conversion(a, to: Int32.self, rounding)
    case .int64: try result.conversion(a, to: Int64.self, rounding)
    case .uint8: try result.conversion(a, to: UInt8.self, rounding)
    case .uint16: try result.conversion(a, to: UInt16.self, rounding)
    case .uint32: try result.conversion(a, to: UInt32.self, rounding)
    case .uint64: try result.conversion(a, to: UInt64.self, rounding)
    }
    return result
}

extension CaseResult {
    /// The outputs of `bf16.to`: each element converted, and the flags it raised.
    fileprivate mutating func conversion<Word>(
        _ a: [UInt16], _: Word.Type, _ convert: (BFloat16, Int, inout Flags) throws -> Word,
        as tensor: ([Word], [Int]) -> Tensor
    ) throws {
        var words: [Word] = []
        var raised: [UInt8] = []
        for index in a.indices {
            var flags: Flags = []
            words.append(try convert(BFloat16(bitPattern: a[index]), index, &flags))
            raised.append(flags.rawValue)
        }
        output("r", tensor(words, [a.count]))
        output("flags", Tensor(raised, shape: [a.count]))
    }

    fileprivate mutating func conversion<Integer: FixedWidthInteger & TensorInteger>(
        _ a: [UInt16], to: Integer.Type, _ rounding: ElementRounding
    ) throws {
        try conversion(a, Integer.self) { x, index, flags in
            try BFloat16.toInteger(x, as: Integer.self, rounding: rounding.mode(at: index), flags: &flags)
        } as: {
            Tensor($0, shape: $1)
        }
    }
}

private func elementwise(count: Int, _ apply: (Int, inout Flags) throws -> BFloat16) rethrows -> CaseResult {
    var bits: [UInt16] = []
    var raised: [UInt8] = []
    bits.reserveCapacity(count)
    raised.reserveCapacity(count)
    for index in 0..<count {
        var flags: Flags = []
        bits.append(try apply(index, &flags).bitPattern)
        raised.append(flags.rawValue)
    }
    var result = CaseResult()
    result.output("r", bf16: bits, [count])
    result.output("flags", Tensor(raised, shape: [count]))
    return result
}
