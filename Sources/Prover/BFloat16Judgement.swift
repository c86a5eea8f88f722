import BFloat16

// Which function is held against which derivation, and the loops over the cases.

/// A result and the flags that came with it.
struct Answer {
    let bits: UInt64
    let flags: Flags

    @inline(__always)
    init(_ bits: some UnsignedInteger & FixedWidthInteger, _ flags: Flags) {
        self.bits = UInt64(truncatingIfNeeded: bits)
        self.flags = flags
    }

    @inline(__always)
    init(_ pair: (UInt16, Flags)) { self.init(pair.0, pair.1) }

    @inline(__always)
    init(_ pair: (UInt64, Flags)) { self.init(pair.0, pair.1) }

    @inline(__always)
    static func != (a: Answer, b: Answer) -> Bool { a.bits != b.bits || a.flags != b.flags }
}

extension BFloat16Proof {
    /// Judges the cases of a range of indices.
    func judge(_ cases: Range<UInt64>, _ mismatches: inout Mismatches) {
        switch operation.domain {
        case .everyPair: judgePairs(cases, &mismatches)
        case .every: judgeUnary(cases, &mismatches)
        case .everyScaled: judgeScaled(cases, &mismatches)
        case .sampledTriples: judgeTriples(cases, &mismatches)
        case .sampledWide: judgeWide(cases, &mismatches)
        }
    }

    /// The mode for a case: the random word of `sr` is chosen when the exact result is known.
    private var baseMode: RoundingMode { rounding.flatMap { RoundingMode(name: $0) } ?? .nearestEven }

    // MARK: Pairs

    private func judgePairs(_ cases: Range<UInt64>, _ mismatches: inout Mismatches) {
        let mode = baseMode
        let tininess = tininess
        switch operation {
        case .add:
            judgeArithmetic(
                cases, &mismatches, SecondArithmetic.addSingle, { SecondArithmetic.add($0, $1, mode) }
            ) { a, b, mode, flags in BFloat16.add(a, b, rounding: mode, tininess: tininess, flags: &flags) }
        case .subtract:
            judgeArithmetic(
                cases, &mismatches, SecondArithmetic.subtractSingle, { SecondArithmetic.subtract($0, $1, mode) }
            ) { a, b, mode, flags in BFloat16.subtract(a, b, rounding: mode, tininess: tininess, flags: &flags) }
        case .multiply:
            judgeArithmetic(
                cases, &mismatches, SecondArithmetic.multiplySingle, { SecondArithmetic.multiply($0, $1) }
            ) { a, b, mode, flags in BFloat16.multiply(a, b, rounding: mode, tininess: tininess, flags: &flags) }
        case .divide:
            judgeArithmetic(
                cases, &mismatches, SecondArithmetic.divideSingle, { SecondArithmetic.divide($0, $1) }
            ) { a, b, mode, flags in BFloat16.divide(a, b, rounding: mode, tininess: tininess, flags: &flags) }
        case .remainder:
            SecondArithmetic.withPowers { powers in
                comparePairs(
                    cases, &mismatches, { a, b, flags in BFloat16.remainder(a, b, flags: &flags).bitPattern },
                    { SecondArithmetic.remainder($0, $1, powers: powers) })
            }
        case .minimum:
            comparePairs(
                cases, &mismatches, { a, b, flags in BFloat16.minimum(a, b, flags: &flags).bitPattern },
                { SecondSelection.extreme($0, $1, greater: false, numbersWin: false) })
        case .maximum:
            comparePairs(
                cases, &mismatches, { a, b, flags in BFloat16.maximum(a, b, flags: &flags).bitPattern },
                { SecondSelection.extreme($0, $1, greater: true, numbersWin: false) })
        case .minimumNumber:
            comparePairs(
                cases, &mismatches, { a, b, flags in BFloat16.minimumNumber(a, b, flags: &flags).bitPattern },
                { SecondSelection.extreme($0, $1, greater: false, numbersWin: true) })
        case .maximumNumber:
            comparePairs(
                cases, &mismatches, { a, b, flags in BFloat16.maximumNumber(a, b, flags: &flags).bitPattern },
                { SecondSelection.extreme($0, $1, greater: true, numbersWin: true) })
        case .compareQuiet:
            comparePairs(
                cases, &mismatches,
                { a, b, flags in UInt16(BFloat16.compare(a, b, signalling: false, flags: &flags)) },
                { SecondSelection.compare($0, $1, signalling: false) })
        case .compareSignalling:
            comparePairs(
                cases, &mismatches,
                { a, b, flags in UInt16(BFloat16.compare(a, b, signalling: true, flags: &flags)) },
                { SecondSelection.compare($0, $1, signalling: true) })
        case .totalOrder:
            comparePairs(
                cases, &mismatches, { a, b, _ in BFloat16.totalOrder(a, b) ? 1 : 0 },
                { (SecondSelection.totalOrder($0, $1), []) })
        default: preconditionFailure("not an operation on pairs")
        }
    }

    /// A correctly rounded operation on all b for each a: against the exact result, rounded by the second derivation, and under `rne` against
    /// the hardware's binary32 operation too.
    @inline(__always)
    private func judgeArithmetic(
        _ cases: Range<UInt64>, _ mismatches: inout Mismatches, _ single: (UInt16, UInt16) -> UInt16,
        _ exact: (UInt16, UInt16) -> ExactResult,
        _ operation: (BFloat16, BFloat16, RoundingMode, inout Flags) -> BFloat16
    ) {
        var mode = baseMode
        let stochastic = isStochastic
        let isNearestEven = mode == .nearestEven
        for index in cases {
            let (a, b) = (UInt16(truncatingIfNeeded: index >> 16), UInt16(truncatingIfNeeded: index))
            let value = exact(a, b)
            if stochastic {
                mode = .stochastic(random: randomWord(for: value, hash: BFloat16Cases.hash(index, seed: seed)))
            }
            let expected = secondRounding(value, mode, tininess)
            var flags: Flags = []
            let got = operation(BFloat16(bitPattern: a), BFloat16(bitPattern: b), mode, &flags).bitPattern
            if got != expected.bits || flags != expected.flags {
                mismatches.record {
                    mismatch(index, operands: [a, b], mode, Answer(expected.bits, expected.flags), Answer(got, flags))
                }
            } else if isNearestEven, got != single(a, b) {
                mismatches.record {
                    mismatch(index, operands: [a, b], mode, Answer(single(a, b), flags), Answer(got, flags))
                }
            }
        }
    }

    @inline(__always)
    private func comparePairs(
        _ cases: Range<UInt64>, _ mismatches: inout Mismatches,
        _ operation: (BFloat16, BFloat16, inout Flags) -> UInt16, _ second: (UInt16, UInt16) -> (UInt16, Flags)
    ) {
        for index in cases {
            let (a, b) = (UInt16(truncatingIfNeeded: index >> 16), UInt16(truncatingIfNeeded: index))
            let expected = second(a, b)
            var flags: Flags = []
            let got = operation(BFloat16(bitPattern: a), BFloat16(bitPattern: b), &flags)
            if got != expected.0 || flags != expected.1 {
                mismatches.record {
                    mismatch(index, operands: [a, b], baseMode, Answer(expected), Answer(got, flags))
                }
            }
        }
    }

    // MARK: One operand

    /// All operands, with all random words where ``total`` has room for them: index = operand * 2^16 + word then.
    private func judgeUnary(_ cases: Range<UInt64>, _ mismatches: inout Mismatches) {
        let everyWord = isStochastic && total > 1 << 16 && !isWideSource
        var mode = baseMode
        for index in cases {
            let operand = everyWord ? index >> 16 : index
            let value = exactUnary(operand, mode)
            if everyWord {
                mode = .stochastic(random: UInt16(truncatingIfNeeded: index))
            } else if isStochastic, let value {
                mode = .stochastic(random: randomWord(for: value, hash: BFloat16Cases.hash(index, seed: seed)))
            }
            let expected =
                value.map { value in
                    let (bits, flags) = secondRounding(value, mode, tininess)
                    return Answer(bits, flags)
                } ?? secondUnary(operand, mode)
            let got = firstUnary(operand, mode)
            if got != expected {
                mismatches.record { mismatch(index, operands: [operand], mode, expected, got) }
            } else if self.operation == .squareRoot, mode == .nearestEven {
                let single = SecondArithmetic.squareRootSingle(UInt16(operand))
                if got.bits != UInt64(single) {
                    mismatches.record { mismatch(index, operands: [operand], mode, Answer(single, got.flags), got) }
                }
            }
        }
    }

    private var isWideSource: Bool {
        if case .every(let bits) = operation.domain { bits > 16 } else { true }
    }

    /// The exact result of an operation with one operand whose result is rounded to bf16; nil for the others.
    @inline(__always)
    private func exactUnary(_ operand: UInt64, _ mode: RoundingMode) -> ExactResult? {
        func integer(_ value: Int64) -> ExactResult {
            SecondConversion.integer(negative: value < 0, magnitude: value.magnitude)
        }
        switch operation {
        case .squareRoot: return SecondArithmetic.squareRoot(UInt16(operand))
        case .fromFloat16: return SecondConversion.float16(UInt16(operand))
        case .fromFloat: return SecondConversion.float(UInt32(operand))
        case .fromInt8: return integer(Int64(Int8(truncatingIfNeeded: operand)))
        case .fromInt16: return integer(Int64(Int16(truncatingIfNeeded: operand)))
        case .fromInt32: return integer(Int64(Int32(truncatingIfNeeded: operand)))
        case .fromUInt8, .fromUInt16, .fromUInt32: return integer(Int64(operand))
        default: return nil
        }
    }

    /// The second derivation of the operations with one operand that ``exactUnary(_:_:)`` does not cover.
    private func secondUnary(_ operand: UInt64, _ mode: RoundingMode) -> Answer {
        let a = UInt16(truncatingIfNeeded: operand)
        func integer(_ width: Int, _ isSigned: Bool) -> Answer {
            Answer(SecondConversion.toInteger(a, width: width, isSigned: isSigned, mode))
        }
        switch operation {
        case .roundToIntegral: return Answer(SecondSelection.roundToIntegral(a, mode))
        case .nextUp: return Answer(SecondSelection.nextUp(a))
        case .nextDown: return Answer(SecondSelection.nextDown(a))
        case .classify: return Answer(SecondSelection.classify(a), [])
        case .logb: return Answer(SecondSelection.logb(a))
        case .toFloat16: return Answer(SecondConversion.toFloat16(a, mode, tininess))
        case .toFloat: return Answer(SecondConversion.toFloat(a))
        case .toDouble: return Answer(SecondConversion.toDouble(a))
        case .toInt8: return integer(8, true)
        case .toInt16: return integer(16, true)
        case .toInt32: return integer(32, true)
        case .toInt64: return integer(64, true)
        case .toUInt8: return integer(8, false)
        case .toUInt16: return integer(16, false)
        case .toUInt32: return integer(32, false)
        case .toUInt64: return integer(64, false)
        default: preconditionFailure("not an operation with one operand")
        }
    }

    /// What the module under proof says. A refusal, which no mode of ``BFloat16Operation/roundings`` may meet, gives no valid bits.
    @inline(__always)
    private func firstUnary(_ operand: UInt64, _ mode: RoundingMode) -> Answer {
        var flags: Flags = []
        let a = BFloat16(bitPattern: UInt16(truncatingIfNeeded: operand))
        func converted<Integer: FixedWidthInteger>(_ type: Integer.Type) -> Answer {
            BFloat16Proof.unlessRefused { () throws(RefusedRounding) in
                let value: Integer = try BFloat16.toInteger(a, rounding: mode, flags: &flags)
                return Answer(UInt64(truncatingIfNeeded: value), flags)
            }
        }
        func source<Integer: FixedWidthInteger>(_ value: Integer) -> Answer {
            let result = BFloat16.convert(value, rounding: mode, flags: &flags)
            return Answer(result.bitPattern, flags)
        }
        let result: BFloat16
        switch operation {
        case .squareRoot: result = BFloat16.squareRoot(a, rounding: mode, tininess: tininess, flags: &flags)
        case .nextUp: result = BFloat16.nextUp(a, flags: &flags)
        case .nextDown: result = BFloat16.nextDown(a, flags: &flags)
        case .logb: result = BFloat16.logb(a, flags: &flags)
        case .fromFloat16:
            result = BFloat16.convert(
                float16Bits: UInt16(operand), rounding: mode, tininess: tininess, flags: &flags)
        case .fromFloat:
            result = BFloat16.convert(floatBits: UInt32(operand), rounding: mode, tininess: tininess, flags: &flags)
        case .fromInt8: return source(Int8(truncatingIfNeeded: operand))
        case .fromInt16: return source(Int16(truncatingIfNeeded: operand))
        case .fromInt32: return source(Int32(truncatingIfNeeded: operand))
        case .fromUInt8: return source(UInt8(truncatingIfNeeded: operand))
        case .fromUInt16: return source(UInt16(truncatingIfNeeded: operand))
        case .fromUInt32: return source(UInt32(truncatingIfNeeded: operand))
        case .roundToIntegral:
            return Self.unlessRefused { () throws(RefusedRounding) in
                let result = try BFloat16.roundToIntegral(a, rounding: mode, flags: &flags)
                return Answer(result.bitPattern, flags)
            }
        case .toFloat16:
            return Self.unlessRefused { () throws(RefusedRounding) in
                let bits = try BFloat16.toFloat16Bits(a, rounding: mode, tininess: tininess, flags: &flags)
                return Answer(bits, flags)
            }
        case .classify: return Answer(SecondSelection.classNumber(BFloat16.classify(a)), [])
        case .toFloat:
            let bits = BFloat16.toFloatBits(a, flags: &flags)
            return Answer(bits, flags)
        case .toDouble:
            let bits = BFloat16.toDoubleBits(a, flags: &flags)
            return Answer(bits, flags)
        case .toInt8: return converted(Int8.self)
        case .toInt16: return converted(Int16.self)
        case .toInt32: return converted(Int32.self)
        case .toInt64: return converted(Int64.self)
        case .toUInt8: return converted(UInt8.self)
        case .toUInt16: return converted(UInt16.self)
        case .toUInt32: return converted(UInt32.self)
        case .toUInt64: return converted(UInt64.self)
        default: preconditionFailure("not an operation with one operand")
        }
        return Answer(result.bitPattern, flags)
    }

    private static func unlessRefused(_ body: () throws(RefusedRounding) -> Answer) -> Answer {
        do { return try body() } catch { return Answer(UInt64.max, Flags(rawValue: 0xFF)) }
    }

    // MARK: Scaling, triples, 64 bits

    private func judgeScaled(_ cases: Range<UInt64>, _ mismatches: inout Mismatches) {
        for index in cases {
            let a = UInt16(truncatingIfNeeded: index)
            let n = BFloat16Cases.scales[Int(index >> 16)]
            judge(
                index, operands: [UInt64(a), UInt64(bitPattern: Int64(n))], SecondSelection.scalbn(a, n), &mismatches
            ) { mode, flags in
                BFloat16.scalbn(BFloat16(bitPattern: a), n, rounding: mode, tininess: tininess, flags: &flags)
            }
        }
    }

    private func judgeTriples(_ cases: Range<UInt64>, _ mismatches: inout Mismatches) {
        for index in cases {
            let (a, b, c) = BFloat16Cases.triple(index, seed: seed)
            judge(
                index, operands: [a, b, c], SecondArithmetic.fusedMultiplyAdd(a, b, c, baseMode), &mismatches
            ) { mode, flags in
                BFloat16.fusedMultiplyAdd(
                    BFloat16(bitPattern: a), BFloat16(bitPattern: b), BFloat16(bitPattern: c), rounding: mode,
                    tininess: tininess, flags: &flags)
            }
        }
    }

    private func judgeWide(_ cases: Range<UInt64>, _ mismatches: inout Mismatches) {
        for index in cases {
            switch operation {
            case .fromDouble:
                let bits = BFloat16Cases.wideDouble(index, seed: seed)
                judge(index, operands: [bits], SecondConversion.double(bits), &mismatches) { mode, flags in
                    BFloat16.convert(doubleBits: bits, rounding: mode, tininess: tininess, flags: &flags)
                }
            case .fromInt64:
                let value = Int64(bitPattern: BFloat16Cases.wideInteger(index, seed: seed))
                let exact = SecondConversion.integer(negative: value < 0, magnitude: value.magnitude)
                judge(index, operands: [UInt64(bitPattern: value)], exact, &mismatches) { mode, flags in
                    BFloat16.convert(value, rounding: mode, flags: &flags)
                }
            default:
                let value = BFloat16Cases.wideInteger(index, seed: seed)
                let exact = SecondConversion.integer(negative: false, magnitude: value)
                judge(index, operands: [value], exact, &mismatches) { mode, flags in
                    BFloat16.convert(value, rounding: mode, flags: &flags)
                }
            }
        }
    }

    /// One case of a correctly rounded operation.
    @inline(__always)
    private func judge<Operand: UnsignedInteger & FixedWidthInteger>(
        _ index: UInt64, operands: @autoclosure () -> [Operand], _ exact: ExactResult, _ mismatches: inout Mismatches,
        _ operation: (RoundingMode, inout Flags) -> BFloat16
    ) {
        var mode = baseMode
        if isStochastic {
            mode = .stochastic(random: randomWord(for: exact, hash: BFloat16Cases.hash(index, seed: seed)))
        }
        let expected = secondRounding(exact, mode, tininess)
        var flags: Flags = []
        let got = operation(mode, &flags).bitPattern
        if got != expected.bits || flags != expected.flags {
            mismatches.record {
                mismatch(index, operands: operands(), mode, Answer(expected.bits, expected.flags), Answer(got, flags))
            }
        }
    }

    // MARK: Words

    private func mismatch(
        _ index: UInt64, operands: [some UnsignedInteger & FixedWidthInteger], _ mode: RoundingMode, _ expected: Answer,
        _ got: Answer
    ) -> Mismatch {
        var inputs = operands.map { describe(UInt64($0), isBFloat16: operandsAreBFloat16) }.joined(separator: ", ")
        if case .stochastic(let random) = mode { inputs += ", random \(hexadecimal(UInt64(random), digits: 4))" }
        return Mismatch(
            index: index, inputs: inputs,
            expected: "\(describe(expected.bits, isBFloat16: resultIsBFloat16)) \(expected.flags)",
            got: "\(describe(got.bits, isBFloat16: resultIsBFloat16)) \(got.flags)")
    }

    private var operandsAreBFloat16: Bool { !operation.rawValue.hasPrefix("from-") }

    private var resultIsBFloat16: Bool {
        switch operation {
        case .compareQuiet, .compareSignalling, .totalOrder, .classify: false
        default: !operation.rawValue.hasPrefix("to-")
        }
    }

    private func describe(_ bits: UInt64, isBFloat16: Bool) -> String {
        guard isBFloat16, bits <= 0xFFFF else { return hexadecimal(bits, digits: 4) }
        return "\(hexadecimal(bits, digits: 4)) (\(Float(bitPattern: UInt32(bits) << 16)))"
    }
}

/// At least `digits` hexadecimal digits after 0x.
func hexadecimal(_ bits: UInt64, digits: Int) -> String {
    let text = String(bits, radix: 16, uppercase: true)
    return "0x" + String(repeating: "0", count: max(0, digits - text.count)) + text
}
