/// A mean over runs that differ in their seed alone, and how far it may be off.
public struct Estimate: Sendable, Hashable {
    public let mean: Double
    /// Of one run, with n - 1 in the denominator; 0 for one run.
    public let standardDeviation: Double
    /// Half the width of the interval that holds the mean of all seeds with 95 % confidence (Student's t); nil for one run.
    public let halfWidth: Double?
    public let count: Int

    /// - Precondition: at least one value.
    public init(_ values: [Double]) {
        count = values.count
        let mean = values.reduce(0, +) / Double(values.count)
        self.mean = mean
        guard values.count > 1 else {
            (standardDeviation, halfWidth) = (0, nil)
            return
        }
        let squares = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
        standardDeviation = (squares / Double(values.count - 1)).squareRoot()
        halfWidth = Self.studentT(values.count - 1) * standardDeviation / Double(values.count).squareRoot()
    }

    /// The 97.5 % point of Student's t, from tables; of the next smaller tabulated number of degrees of freedom, which is on the safe side.
    static func studentT(_ degrees: Int) -> Double {
        let table = [
            12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
            2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
        ]
        return table[min(degrees, table.count) - 1]
    }

    /// Whether 0 lies outside of the interval.
    public var isSignificant: Bool { halfWidth.map { abs(mean) > $0 } ?? false }

    /// "0.0123 ± 0.0045", in so many decimals.
    public func text(_ decimals: Int, signed: Bool = false) -> String {
        let sign = signed && mean >= 0 ? "+" : ""
        return sign + fixed(mean, decimals) + (halfWidth.map { " \u{B1} \(fixed($0, decimals))" } ?? "")
    }
}
