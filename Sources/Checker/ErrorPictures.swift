/// Where and how large the errors of one output are, in memory that does not grow with the output.
public struct ErrorPictures: Sendable, Hashable {
    /// Mismatches a cell, the last two dimensions folded to at most ``mostCells`` cells each; of a tensor of one dimension one row of cells.
    public struct HeatMap: Sendable, Hashable {
        /// Of the last two dimensions: elements, and cells.
        public let rows: Int
        public let columns: Int
        public let cellRows: Int
        public let cellColumns: Int
        /// Dimensions before the last two, all folded into each cell.
        public let leading: Int
        /// [cellRows, cellColumns]
        public internal(set) var counts: [Int]

        /// The elements that fall into a cell row or column, of `size` in `cells`.
        public static func range(_ cell: Int, of size: Int, in cells: Int) -> Range<Int> {
            // The elements i with i * cells / size = cell.
            (cell * size + cells - 1) / cells..<((cell + 1) * size + cells - 1) / cells
        }
    }

    /// A bin of error against magnitude, both in powers of two.
    public struct Bin: Sendable, Hashable {
        /// floor(log2 |expected|); nil for zeros, infinities and NaNs.
        public let magnitude: Int?
        /// In units in the last place: the bucket of ``UlpHistogram``. As a share of the bound: floor(2 log2), from -60 to 60.
        public let error: Int
    }

    public static let mostCells = 64

    public private(set) var heatMap: HeatMap
    /// Counts by bin; at most 2,200 magnitudes times 121 errors.
    public private(set) var density: [Bin: Int] = [:]
    /// Whether errors are shares of the bound, not units in the last place.
    public let isShareOfBound: Bool

    init(shape: [Int], isShareOfBound: Bool) {
        let columns = shape.last ?? 1
        let rows = shape.count >= 2 ? shape[shape.count - 2] : 1
        let (cellRows, cellColumns) = (min(rows, Self.mostCells), min(columns, Self.mostCells))
        heatMap = HeatMap(
            rows: rows, columns: columns, cellRows: cellRows, cellColumns: cellColumns,
            leading: shape.contains(0) ? 0 : shape.dropLast(2).reduce(1, *),
            counts: [Int](repeating: 0, count: cellRows * cellColumns))
        self.isShareOfBound = isShareOfBound
    }

    mutating func add(_ index: Int, magnitude: Double?, ulps: UInt64?, share: Double?) {
        let map = heatMap
        let (row, column) = (index / map.columns % map.rows, index % map.columns)
        heatMap.counts[
            row * map.cellRows / map.rows * map.cellColumns + column * map.cellColumns / map.columns] += 1
        guard let magnitude else { return }
        let error: Int
        if isShareOfBound {
            guard let share, share.isFinite, share > 0 else { return }
            error = max(-60, min(60, Int((2 * Self.logarithm(share)).rounded(.down))))
        } else {
            guard let ulps else { return }
            error = UlpHistogram.bucket(ulps)
        }
        let exponent = magnitude.isFinite && magnitude != 0 ? Int(magnitude.exponent) : nil
        density[Bin(magnitude: exponent, error: error), default: 0] += 1
    }

    /// log2 to a few digits, for bins alone: the exponent, and the significand's logarithm by a chord through sqrt(2).
    private static func logarithm(_ x: Double) -> Double {
        Double(x.exponent) + (x.significand < 0x1.6a09e667f3bcdp0 ? 0.25 : 0.75)
    }
}
