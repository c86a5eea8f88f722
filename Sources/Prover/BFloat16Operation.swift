/// An operation of the `BFloat16` module that ``BFloat16Proof`` covers. The raw values are the names on the command line.
public enum BFloat16Operation: String, Sendable, CaseIterable {
    // B3
    case add, subtract = "sub", multiply = "mul", divide = "div", remainder = "rem", squareRoot = "sqrt"
    case fusedMultiplyAdd = "fma"
    // B4
    case roundToIntegral, nextUp, nextDown
    case minimum, maximum, minimumNumber, maximumNumber
    case compareQuiet = "compare-quiet", compareSignalling = "compare-signalling"
    case totalOrder, classify, scalbn, logb
    // B5
    case fromFloat16 = "from-fp16", fromFloat = "from-fp32", fromDouble = "from-fp64"
    case fromInt8 = "from-int8", fromInt16 = "from-int16", fromInt32 = "from-int32", fromInt64 = "from-int64"
    case fromUInt8 = "from-uint8", fromUInt16 = "from-uint16", fromUInt32 = "from-uint32", fromUInt64 = "from-uint64"
    case toFloat16 = "to-fp16", toFloat = "to-fp32", toDouble = "to-fp64"
    case toInt8 = "to-int8", toInt16 = "to-int16", toInt32 = "to-int32", toInt64 = "to-int64"
    case toUInt8 = "to-uint8", toUInt16 = "to-uint16", toUInt32 = "to-uint32", toUInt64 = "to-uint64"

    /// What the cases of an operation are.
    enum Domain: Sendable {
        /// Every bit pattern of one operand of this many bits: 8, 16 or 32.
        case every(bits: Int)
        /// Every pair of bf16.
        case everyPair
        /// Every bf16 with each exponent of ``BFloat16Cases/scales``.
        case everyScaled
        /// Triples of bf16: a grid and a sample.
        case sampledTriples
        /// Operands of 64 bits: a grid and a sample.
        case sampledWide
    }

    var domain: Domain {
        switch self {
        case .add, .subtract, .multiply, .divide, .remainder, .minimum, .maximum, .minimumNumber, .maximumNumber,
            .compareQuiet, .compareSignalling, .totalOrder:
            .everyPair
        case .fusedMultiplyAdd: .sampledTriples
        case .scalbn: .everyScaled
        case .fromInt8, .fromUInt8: .every(bits: 8)
        case .fromFloat, .fromInt32, .fromUInt32: .every(bits: 32)
        case .fromDouble, .fromInt64, .fromUInt64: .sampledWide
        default: .every(bits: 16)
        }
    }

    /// The names of the rounding modes that change the operation (B1, B2); empty where nothing is rounded.
    public var roundings: [String] {
        let all = ["rne", "rtz", "rdn", "rup", "rna", "rto", "sr"]
        switch self {
        case .add, .subtract, .multiply, .divide, .squareRoot, .fusedMultiplyAdd, .scalbn, .fromFloat16, .fromFloat,
            .fromDouble, .fromInt8, .fromInt16, .fromInt32, .fromInt64, .fromUInt8, .fromUInt16, .fromUInt32,
            .fromUInt64:
            return all
        case .roundToIntegral, .toFloat16, .toInt8, .toInt16, .toInt32, .toInt64, .toUInt8, .toUInt16, .toUInt32,
            .toUInt64:
            return all.dropLast()
        default:
            return []
        }
    }

    /// Whether the cases are all there are: operands and, under `sr` with an operand of at most 16 bits, random words.
    public var isExhaustive: Bool {
        switch domain {
        case .every, .everyPair: true
        case .everyScaled, .sampledTriples, .sampledWide: false
        }
    }
}
