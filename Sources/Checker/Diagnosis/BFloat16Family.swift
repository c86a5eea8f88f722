import BFloat16
import Cases
import ExactMath
import Goldens
import JSON
import ModelSpec

// bf16.*: clauses B under choices. Elementwise, so that a deviation is a function of an element's inputs.

extension DeviationCatalog {
    static let bfloat16Family = VariantFamily(
        name: "bf16", operations: Suite.operations(of: .bf16),
        deviations: roundings + viaFloat + subnormals + singleOperations + flags, compute: nil)

    // MARK: Rounding

    private static let roundings: [Deviation] =
        [
            ("rtz", "rounds toward zero"), ("rna", "rounds ties away from zero"),
            ("rup", "rounds toward plus infinity"),
            ("rdn", "rounds toward minus infinity"), ("rto", "rounds to odd"),
            ("rne", "rounds to nearest, ties to even"),
        ].map { name, summary in
            Deviation(
                "bf16.rounding.\(name)", summary, ["B1"],
                .question { goldenCase in
                    guard let old = goldenCase.recipe["rounding"], old != .string(name) else { return nil }
                    var changed = goldenCase
                    changed.recipe["rounding"] = .string(name)
                    changed.inputs = goldenCase.inputs.removing("random")
                    return changed
                })
        } + [
            .input("bf16.random.inverted", "subtracts where the random bits are to be added", ["B1"], "random") {
                $1.mapping { ~$0 & 0xFFFF }
            },
            .input("bf16.random.eight-bits", "uses the upper 8 of 16 random bits", ["B1"], "random") {
                $1.mapping { $0 & 0xFF00 }
            },
            .input("bf16.random.first-repeated", "uses the first random bits for every element", ["B1"], "random") {
                $1.picking { _ in 0 }
            },
            .recipe(
                "bf16.tininess.before", "judges smallness before rounding", ["B2"], key: "tininess", .string("before")),
            .recipe(
                "bf16.tininess.after", "judges smallness after rounding", ["B2"], key: "tininess", .string("after")),
        ]

    // MARK: By way of binary32

    private static let viaFloat: [Deviation] = [
        viaFloat("truncated", "computes in fp32 and cuts the lower 16 bits off") { $0 >> 16 },
        viaFloat("half-up", "computes in fp32 and adds half a unit before cutting") { ($0 &+ 0x8000) >> 16 },
        viaFloat("nearest", "computes in fp32 and rounds a second time") {
            UInt32(SoftFloat32.roundToBFloat16(Float(bitPattern: $0)))
        },
        viaFloat("nan-unguarded", "computes in fp32 and rounds by integer addition, NaNs too", guardsNaN: false) {
            ($0 &+ 0x7FFF &+ ($0 >> 16 & 1)) >> 16
        },
        viaDouble,
        elements("bf16.fma.unfused", "rounds the product of an fma before adding", ["B3"], ["bf16.fma"]) { x in
            var flags: Flags = []
            let product = BFloat16.multiply(x[0], x[1], rounding: .nearestEven, flags: &flags)
            return BFloat16.add(product, x[2], rounding: .nearestEven, flags: &flags)
        },
        elements("bf16.div.by-reciprocal", "multiplies by the reciprocal", ["B3"], ["bf16.div"]) { x in
            let reciprocal = SoftFloat32.divide(1, Float(x[1]))
            return BFloat16(bitPattern: SoftFloat32.roundToBFloat16(SoftFloat32.multiply(Float(x[0]), reciprocal)))
        },
        elements(
            "bf16.div.by-bf16-reciprocal", "multiplies by the reciprocal, rounded to bf16", ["B3"], ["bf16.div"]
        ) {
            x in
            var flags: Flags = []
            let one = BFloat16(bitPattern: 0x3F80)
            let reciprocal = BFloat16.divide(one, x[1], rounding: .nearestEven, flags: &flags)
            return BFloat16.multiply(x[0], reciprocal, rounding: .nearestEven, flags: &flags)
        },
        elements("bf16.sqrt.by-reciprocal-root", "multiplies x by 1/sqrt(x)", ["B3"], ["bf16.sqrt"]) { x in
            let value = Float(x[0])
            return BFloat16(
                bitPattern: SoftFloat32.roundToBFloat16(
                    SoftFloat32.multiply(value, CorrectlyRounded.rsqrt(value))))
        },
        elements("bf16.rem.truncating", "takes the remainder of C's fmod", ["B3"], ["bf16.rem"]) { x in
            var flags: Flags = []
            return BFloat16.truncatingRemainder(x[0], x[1], flags: &flags)
        },
        Deviation(
            "bf16.from.via-fp32", "converts to fp32 first and rounds twice", ["B5"],
            .question { goldenCase in
                guard goldenCase.op == "bf16.from", let a = goldenCase.inputs["a"], let values = a.float32Values
                else {
                    return nil
                }
                var changed = goldenCase
                changed.recipe["source"] = "fp32"
                changed.inputs = goldenCase.inputs.replacing("a", with: Tensor(values, shape: a.shape))
                return changed
            }),
    ]

    // MARK: Subnormals and operands

    private static let subnormals: [Deviation] = [
        Deviation(
            "bf16.subnormals.inputs-flushed", "reads subnormal inputs as zero", ["F3", "B3"],
            .question { goldenCase in
                var changed = goldenCase
                for named in goldenCase.inputs.tensors where named.tensor.type == .bf16 {
                    let flushed = named.tensor.mapping { $0 & 0x7F80 == 0 ? $0 & 0x8000 : $0 }
                    changed.inputs = changed.inputs.replacing(named.name, with: flushed)
                }
                return changed == goldenCase ? nil : changed
            }),
        Deviation(
            "bf16.operands.swapped", "takes the operands in the other order", ["B3"],
            .question { goldenCase in
                guard let a = goldenCase.inputs["a"], let b = goldenCase.inputs["b"] else { return nil }
                var changed = goldenCase
                changed.inputs = goldenCase.inputs.replacing("a", with: b).replacing("b", with: a)
                return changed
            }),
        Deviation(
            "bf16.operands.c-negated", "subtracts the addend of an fma", ["B3"],
            .question { goldenCase in
                guard goldenCase.op == "bf16.fma", let c = goldenCase.inputs["c"] else { return nil }
                var changed = goldenCase
                changed.inputs = goldenCase.inputs.replacing("c", with: c.mapping { $0 ^ 0x8000 })
                return changed
            }),
    ]

    // MARK: Minimum, neighbours, comparisons, integers

    private static let singleOperations: [Deviation] = [
        operation(
            "bf16.minimum.number-wins", "lets a number win over NaN",
            [
                "bf16.minimum": "bf16.minimumNumber", "bf16.maximum": "bf16.maximumNumber",
            ]),
        operation(
            "bf16.minimum.nan-propagates", "lets NaN win over a number",
            [
                "bf16.minimumNumber": "bf16.minimum", "bf16.maximumNumber": "bf16.maximum",
            ]),
        operation(
            "bf16.minimum.exchanged", "takes the maximum for the minimum, or the other way",
            [
                "bf16.minimum": "bf16.maximum", "bf16.maximum": "bf16.minimum",
                "bf16.minimumNumber": "bf16.maximumNumber",
                "bf16.maximumNumber": "bf16.minimumNumber",
            ]),
        elements(
            "bf16.minimum.by-comparison", "takes a if a < b, else b", ["B4"], ["bf16.minimum", "bf16.minimumNumber"]
        ) {
            Float($0[0]) < Float($0[1]) ? $0[0] : $0[1]
        },
        elements(
            "bf16.minimum.by-comparison-of-maximum", "takes a if a > b, else b", ["B4"],
            [
                "bf16.maximum", "bf16.maximumNumber",
            ]
        ) {
            Float($0[0]) > Float($0[1]) ? $0[0] : $0[1]
        },
        operation(
            "bf16.next.exchanged", "steps the other way",
            [
                "bf16.nextUp": "bf16.nextDown", "bf16.nextDown": "bf16.nextUp",
            ]),
        elements("bf16.next.away-from-zero", "adds one to the bits, whatever the sign", ["B4"], ["bf16.nextUp"]) {
            BFloat16(bitPattern: $0[0].bitPattern &+ 1)
        },
        .recipe("bf16.compare.signalling", "raises invalid for quiet NaNs", ["B4"], key: "signalling", true),
        .recipe("bf16.compare.quiet", "raises invalid for signalling NaNs alone", ["B4"], key: "signalling", false),
        relation("unordered-as-false", "says nothing of NaN") { $0 == 8 ? 0 : $0 },
        relation("unordered-as-greater", "says greater of NaN") { $0 == 8 ? 4 : $0 },
        relation("exchanged", "says less for greater") { $0 == 1 ? 4 : $0 == 4 ? 1 : $0 },
        Deviation(
            "bf16.compare.zeros-differ", "says -0 < +0", ["B4"],
            .answer { question, outputs in
                guard question.op == "bf16.compare", let a = question.inputs["a"], let b = question.inputs["b"],
                    let r = outputs["r"]
                else { return nil }
                return outputs.replacing(
                    "r",
                    with: r.mappingIndexed { index, bits in
                        let (x, y) = (a.bits(at: index), b.bits(at: index))
                        return x | y == 0x8000 && x != y ? (x == 0x8000 ? 1 : 4) : bits
                    })
            }),
        integers("wraps", "keeps the lower bits of an integer that is out of range") { value, type in
            // By way of a 64-bit integer, as compilers do it.
            guard value.isFinite, value.magnitude < 0x1p63 else {
                return value.isNaN ? 0 : UInt64(bitPattern: Int64.min)
            }
            return UInt64(bitPattern: Int64(value.rounded(.toNearestOrEven)))
        },
        integers("nan-as-minimum", "gives the least integer for NaN") { value, type in
            value.isNaN
                ? UInt64(
                    bitPattern: type.hasPrefix("u")
                        ? 0 : Int64.min >> Int64(64 - (Int(type.drop { !$0.isNumber }) ?? 64))) : nil
        },
    ]

    private static let flags: [Deviation] =
        [
            ("unset", "raises no flags", 0), ("inexact-missing", "never raises inexact", 0x1E),
            ("underflow-missing", "never raises underflow", 0x1D), ("overflow-missing", "never raises overflow", 0x1B),
            ("division-by-zero-missing", "never raises divideByZero", 0x17),
            ("invalid-missing", "never raises invalid", 0x0F),
        ].map { name, summary, mask in
            Deviation(
                "bf16.flags.\(name)", summary, ["B2"],
                .answer { _, outputs in
                    outputs["flags"].map { flags in
                        outputs.replacing("flags", with: flags.mapping { $0 & UInt64(mask) })
                    }
                })
        }

    // MARK: Shorthand

    /// The operation in fp32, rounded to nearest, then to bf16 in some way.
    private static func viaFloat(
        _ name: String, _ summary: String, guardsNaN: Bool = true, _ narrow: @escaping @Sendable (UInt32) -> UInt32
    ) -> Deviation {
        Deviation(
            "bf16.via-fp32.\(name)", summary, ["B3", "B5"],
            .answer { question, outputs in
                guard let values = wide(question), let r = outputs["r"], r.type == .bf16 else { return nil }
                let bits = values.map { value in
                    value.isNaN && guardsNaN ? UInt16(0x7FC0) : UInt16(truncatingIfNeeded: narrow(value.bitPattern))
                }
                return outputs.replacing("r", with: Tensor(bf16: bits, shape: r.shape))
            })
    }

    /// The operation in fp64, rounded to nearest, then in the mode of the recipe.
    private static let viaDouble = Deviation(
        "bf16.via-fp64.twice", "computes in fp64 and rounds a second time", ["B3", "B5"],
        .answer { question, outputs in
            guard let values = wideInDouble(question), let r = outputs["r"], r.type == .bf16 else { return nil }
            guard case .string(let name)? = question.recipe["rounding"], name != "sr",
                let mode = RoundingMode(name: name)
            else { return nil }
            let bits = values.map { value -> UInt16 in
                var flags: Flags = []
                return BFloat16.convert(doubleBits: value.bitPattern, rounding: mode, flags: &flags).bitPattern
            }
            return outputs.replacing("r", with: Tensor(bf16: bits, shape: r.shape))
        })

    /// `r` of some operations element by element, from the bf16 inputs in their order.
    private static func elements(
        _ name: String, _ summary: String, _ clauses: [String], _ operations: Set<String>,
        _ compute: @escaping @Sendable ([BFloat16]) -> BFloat16
    ) -> Deviation {
        Deviation(
            name, summary, clauses,
            .answer { question, outputs in
                guard operations.contains(question.op), let r = outputs["r"] else { return nil }
                let inputs = question.inputs.tensors.map(\.tensor).filter { $0.type == .bf16 }
                return outputs.replacing(
                    "r",
                    with: r.mappingIndexed { index, _ in
                        UInt64(compute(inputs.map { BFloat16(bitPattern: UInt16($0.bits(at: index))) }).bitPattern)
                    })
            })
    }

    private static func operation(_ name: String, _ summary: String, _ names: [String: String]) -> Deviation {
        Deviation(
            name, summary, ["B4"],
            .question { goldenCase in
                guard let op = names[goldenCase.op] else { return nil }
                var changed = goldenCase
                changed.op = op
                return changed
            })
    }

    private static func relation(_ name: String, _ summary: String, _ change: @escaping @Sendable (UInt64) -> UInt64)
        -> Deviation
    {
        Deviation(
            "bf16.compare.\(name)", summary, ["B4"],
            .answer { question, outputs in
                guard question.op == "bf16.compare", let r = outputs["r"] else { return nil }
                return outputs.replacing("r", with: r.mapping(change))
            })
    }

    private static func integers(
        _ name: String, _ summary: String, _ convert: @escaping @Sendable (Float, String) -> UInt64?
    ) -> Deviation {
        Deviation(
            "bf16.to.\(name)", summary, ["B5"],
            .answer { question, outputs in
                guard question.op == "bf16.to", let a = question.inputs["a"], let r = outputs["r"],
                    !r.type.isFloatingPoint
                else { return nil }
                let kept = r.type.byteWidth == 8 ? UInt64.max : (1 << UInt64(8 * r.type.byteWidth)) - 1
                return outputs.replacing(
                    "r",
                    with: r.mappingIndexed { index, bits in
                        convert(Float(bf16: UInt16(a.bits(at: index))), r.type.rawValue).map { $0 & kept } ?? bits
                    })
            })
    }

    /// The result of the operation in fp64, rounded to nearest: of operations that fp64 has.
    private static func wideInDouble(_ question: GoldenCase) -> [Double]? {
        let tensors = question.inputs.tensors.map(\.tensor).filter { $0.type == .bf16 }
        let compute: ([Double]) -> Double
        switch question.op {
        case "bf16.add": compute = { $0[0] + $0[1] }
        case "bf16.sub": compute = { $0[0] - $0[1] }
        case "bf16.div": compute = { $0[0] / $0[1] }
        // The product is exact: 16 bits.
        case "bf16.fma": compute = { $0[0] * $0[1] + $0[2] }
        case "bf16.from":
            guard let a = question.inputs["a"] else { return nil }
            return switch a.type {
            case .uint64: (0..<a.count).map { Double(a.bits(at: $0)) }
            case .int64: (0..<a.count).map { Double(Int64(bitPattern: a.bits(at: $0))) }
            default: nil
            }
        default: return nil
        }
        return (0..<(tensors.first?.count ?? 0)).map { index in
            compute(tensors.map { Double(Float(bf16: UInt16($0.bits(at: index)))) })
        }
    }

    /// The result of the operation in fp32, rounded to nearest: of operations that fp32 has.
    private static func wide(_ question: GoldenCase) -> [Float]? {
        let tensors = question.inputs.tensors.map(\.tensor).filter { $0.type == .bf16 }
        func inputs(_ index: Int) -> [Float] { tensors.map { Float(bf16: UInt16($0.bits(at: index))) } }
        let compute: ([Float]) -> Float
        switch question.op {
        case "bf16.add": compute = { SoftFloat32.add($0[0], $0[1]) }
        case "bf16.sub": compute = { SoftFloat32.subtract($0[0], $0[1]) }
        case "bf16.mul": compute = { SoftFloat32.multiply($0[0], $0[1]) }
        case "bf16.div": compute = { SoftFloat32.divide($0[0], $0[1]) }
        case "bf16.sqrt": compute = { SoftFloat32.squareRoot($0[0]) }
        case "bf16.fma": compute = { SoftFloat32.fusedMultiplyAdd($0[0], $0[1], $0[2]) }
        case "bf16.from": return question.inputs["a"]?.float32Values
        default: return nil
        }
        return (0..<(tensors.first?.count ?? 0)).map { compute(inputs($0)) }
    }
}

extension Suite {
    /// The names of a suite's operations.
    static func operations(of suite: Suite) -> [String] {
        OperationCatalog.all.filter { $0.suite == suite }.map(\.name)
    }
}

extension Tensor {
    /// Every value rounded to fp32 (RNE); nil for bf16.
    var float32Values: [Float]? {
        let bits = (0..<count).map { self.bits(at: $0) }
        switch type {
        case .bf16: return nil
        case .fp16: return bits.map { Float(Float16(bitPattern: UInt16($0))) }
        case .fp32: return bits.map { Float(bitPattern: UInt32($0)) }
        case .fp64: return bits.map { SoftFloat32.convert(Double(bitPattern: $0)) }
        case .uint8, .uint16, .uint32, .uint64: return bits.map { SoftFloat32.convert($0) }
        case .int8: return bits.map { SoftFloat32.convert(Int64(Int8(truncatingIfNeeded: $0))) }
        case .int16: return bits.map { SoftFloat32.convert(Int64(Int16(truncatingIfNeeded: $0))) }
        case .int32: return bits.map { SoftFloat32.convert(Int64(Int32(truncatingIfNeeded: $0))) }
        case .int64: return bits.map { SoftFloat32.convert(Int64(bitPattern: $0)) }
        }
    }
}
