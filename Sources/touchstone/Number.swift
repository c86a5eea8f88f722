import ArgumentParser
import Prover

/// Numbers on the command line. An option says by `transform:`, with a default by `reading:`, which ones it takes; anything else, be it negative, too large or no number at all, is a usage
/// error that names the range.
enum Number {
    typealias Reader<Value> = @Sendable (String) throws -> Value

    /// A whole number of a range.
    static func whole(_ range: ClosedRange<Int>) -> Reader<Int> {
        { text in
            guard let value = Int(text), range.contains(value) else {
                throw ValidationError("expected a whole number from \(range.lowerBound) to \(range.upperBound)")
            }
            return value
        }
    }

    /// A multiple of `step` of a range.
    static func multiple(of step: Int, in range: ClosedRange<Int>) -> Reader<Int> {
        { text in
            guard let value = Int(text), range.contains(value), value % step == 0 else {
                throw ValidationError("expected a multiple of \(step) from \(range.lowerBound) to \(range.upperBound)")
            }
            return value
        }
    }

    /// A number above 0 and at most `most`.
    static func positive(_ most: Double) -> Reader<Double> {
        { text in
            guard let value = Double(text), value > 0, value <= most else {
                throw ValidationError("expected a number above 0, at most \(most)")
            }
            return value
        }
    }

    /// A number from 0 to `most`.
    static func nonnegative(_ most: Double) -> Reader<Double> {
        { text in
            guard let value = Double(text), value >= 0, value <= most else {
                throw ValidationError("expected a number from 0 to \(most)")
            }
            return value
        }
    }

    /// A number above 0 that fp32 holds.
    static let temperature: Reader<Float> = { text in
        guard let value = Float(text), value > 0, value.isFinite else {
            throw ValidationError("expected a number above 0 that fp32 holds")
        }
        return value
    }

    /// ``whole(_:)``, unsigned.
    static func count(_ range: ClosedRange<Int>) -> Reader<UInt64> {
        let read = whole(range)
        return { UInt64(try read($0)) }
    }

    static let seed: Reader<Seed> = { text in
        guard let seed = Seed(argument: text) else {
            throw ValidationError("expected 0 to 2^64 - 1, decimal, or hexadecimal after 0x")
        }
        return seed
    }

    static let shard: Reader<Shard> = { text in
        do { return try Shard(text) } catch {
            throw ValidationError("expected I/N with 1 <= I <= N <= 1000000, such as 3/8")
        }
    }

    /// Arguments with a negative number joined to the option before it: the parser would take `-1` for another option.
    static func joiningNegative(_ arguments: [String]) -> [String] {
        var result: [String] = []
        for (index, argument) in arguments.enumerated() {
            let isNegative =
                argument.first == "-" && argument.dropFirst().first.map { $0.isNumber || $0 == "." } == true
            if isNegative, let option = result.last, index > 0, option.hasPrefix("--"), option.count > 2,
                !option.contains("="), !arguments[..<index].contains("--")
            {
                result[result.count - 1] = "\(option)=\(argument)"
            } else {
                result.append(argument)
            }
        }
        return result
    }
}

extension Option {
    /// An option that is read by a rule and has a default, which its help states.
    init(
        wrappedValue: Value, name: NameSpecification = .long, help: ArgumentHelp,
        reading: @escaping Number.Reader<Value>
    ) {
        var help = help
        help.abstract += " (default: \(wrappedValue))"
        self.init(wrappedValue: wrappedValue, name: name, help: help, transform: reading)
    }
}
