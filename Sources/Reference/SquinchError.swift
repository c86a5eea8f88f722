/// What Squinch and its all-reduce refuse (S6-S8).
public enum SquinchError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A NaN, or an infinity that the policy refuses (S6): the first such element, its bits as fp32, and the rank where
    /// there are several.
    case nonfinite(index: Int, bits: UInt32, rank: Int?)
    /// The sum x + e of error feedback is not finite (S7): the first such element, the bits of its x and e.
    case nonfiniteSum(index: Int, x: UInt32, e: UInt32, rank: Int?)
    /// Bytes that are not the blocks of that many elements (S5).
    case byteCount(Int, elements: Int)
    /// An input with another number of values than it must have; `name` is its name in golden files.
    case valueCount(name: String, Int, expected: Int)
    /// A number of ranks below 1, or one that does not divide the number of values (S8).
    case ranks(Int, values: Int)

    public var description: String {
        switch self {
        case .nonfinite(let index, let bits, let rank):
            "\(SquinchError.text(bits)) at \(SquinchError.place(index, rank)), where a finite value was expected"
        case .nonfiniteSum(let index, let x, let e, let rank):
            "x + e is not finite at \(SquinchError.place(index, rank)): "
                + "x is \(SquinchError.text(x)), e is \(SquinchError.text(e))"
        case .byteCount(let count, let elements):
            elements < 0
                ? "\(elements) elements cannot be decoded"
                : "\(count) bytes are not the blocks of \(elements) elements, which take "
                    + "\(Squinch.blockBytes * Squinch.blockCount(elements))"
        case .valueCount(let name, let count, let expected):
            "\(name) has \(count) values, expected \(expected)"
        case .ranks(let ranks, let values):
            ranks < 1
                ? "\(ranks) ranks, expected at least 1"
                : "\(values) values are not the gradients of \(ranks) ranks"
        }
    }

    /// The value and its bits.
    private static func text(_ bits: UInt32) -> String {
        let digits = String(bits, radix: 16, uppercase: true)
        let name =
            switch bits {
            case 0x7F80_0000: "infinity"
            case 0xFF80_0000: "-infinity"
            case let bits where bits & 0x7FFF_FFFF > 0x7F80_0000: "NaN"
            default: "\(Float(bitPattern: bits))"
            }
        return "\(name) (0x\(String(repeating: "0", count: 8 - digits.count))\(digits))"
    }

    private static func place(_ index: Int, _ rank: Int?) -> String {
        if let rank { "rank \(rank), index \(index)" } else { "index \(index)" }
    }

    /// The same error, of one rank among several.
    func at(rank: Int) -> SquinchError {
        switch self {
        case .nonfinite(let index, let bits, _): .nonfinite(index: index, bits: bits, rank: rank)
        case .nonfiniteSum(let index, let x, let e, _): .nonfiniteSum(index: index, x: x, e: e, rank: rank)
        case .byteCount, .valueCount, .ranks: self
        }
    }
}
