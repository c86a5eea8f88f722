/// Plots as SVG that take their colours from the page they stand in (``Page``). Every number is written with at most one digit after the point, so
/// that equal data give equal bytes.
public enum Plots {
    /// Tenths.
    static func short(_ value: Double) -> String {
        let tenths = (value * 10).rounded() / 10
        return tenths == tenths.rounded() ? "\(Int(tenths))" : "\(tenths)"
    }

    static func text(_ x: Double, _ y: Double, _ text: String, anchor: String = "middle", style: String = "") -> String
    {
        "<text x=\"\(short(x))\" y=\"\(short(y))\" text-anchor=\"\(anchor)\"\(style.isEmpty ? "" : " class=\"\(style)\"")>\(Page.escaped(text))</text>"
    }

    static func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ style: String) -> String {
        "<line class=\"\(style)\" x1=\"\(short(x1))\" y1=\"\(short(y1))\" x2=\"\(short(x2))\" y2=\"\(short(y2))\"/>"
    }

    static func open(_ width: Double, _ height: Double, _ label: String) -> String {
        "<svg viewBox=\"0 0 \(short(width)) \(short(height))\" role=\"img\" aria-label=\"\(Page.escaped(label))\">"
    }

    /// A count as people read it: 950, 12 k, 3.4 M.
    public static func count(_ n: Int) -> String {
        for (size, unit) in [(1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")] where n >= size {
            let tenths = n * 10 / size
            return tenths >= 100 || tenths % 10 == 0
                ? "\(tenths / 10) \(unit)" : "\(tenths / 10).\(tenths % 10) \(unit)"
        }
        return "\(n)"
    }

    // MARK: Bars

    /// A bar a label, its height the logarithm of its count: the first in one colour, the rest in another where `firstIsRight`.
    public static func bars(_ bars: [(label: String, count: Int)], xAxis: String, firstIsRight: Bool = false) -> String
    {
        let most = bars.map(\.count).max() ?? 0
        guard most > 0 else { return "" }
        let (width, height, left, bottom, top) = (440.0, 254.0, 48.0, 44.0, 18.0)
        var decades = 1
        var reach = 10
        while reach < most {
            reach = reach.multipliedReportingOverflow(by: 10).partialValue
            decades += 1
        }
        let plotHeight = height - bottom - top
        // A count of 1 must be seen.
        func y(_ n: Int) -> Double {
            n == 0
                ? height - bottom
                : height - bottom - plotHeight * (logarithm(Double(n)) + 0.15) / (Double(decades) + 0.15)
        }
        var svg = open(
            width, height,
            "Elements by \(xAxis), logarithmic: \(bars.map { "\($0.label): \($0.count)" }.joined(separator: ", "))")
        var tick = 1
        for decade in 0...decades {
            let every = decades > 6 ? 2 : 1
            if decade % every == 0 {
                svg +=
                    line(left, y(tick), width - 6, y(tick), "grid")
                    + text(left - 6, y(tick) + 4, count(tick), anchor: "end")
            }
            tick = tick.multipliedReportingOverflow(by: 10).partialValue
        }
        let step = (width - left - 6) / Double(bars.count)
        // As many labels as there is room for.
        let every = max(1, Int((34 / step).rounded(.up)))
        for (index, bar) in bars.enumerated() {
            let (x, barWidth) = (left + step * Double(index) + step * 0.12, step * 0.76)
            let style = index == 0 && firstIsRight ? "bar right" : "bar"
            if bar.count > 0 {
                svg +=
                    "<rect class=\"\(style)\" x=\"\(short(x))\" y=\"\(short(y(bar.count)))\" width=\"\(short(barWidth))\" height=\"\(short(height - bottom - y(bar.count)))\"><title>\(Page.escaped(bar.label)): \(bar.count)</title></rect>"
                if step > 30 { svg += text(x + barWidth / 2, y(bar.count) - 4, count(bar.count), style: "ink") }
            }
            if index % every == 0 {
                svg += text(x + barWidth / 2, height - bottom + 15, bar.label)
            }
        }
        svg += line(left, height - bottom, width - 6, height - bottom, "axis")
        return svg + text(left + (width - left) / 2, height - 6, xAxis) + "</svg>"
    }

    /// log10, by the binary exponent and a chord of the significand's: for the height of bars alone.
    static func logarithm(_ x: Double) -> Double {
        guard x > 0 else { return 0 }
        let m = x.significand - 1
        // log2(1 + m) to three digits.
        return (Double(x.exponent) + m * (1.4425 - m * (0.7057 - m * (0.4155 - m * 0.1525)))) * 0.30103
    }

    // MARK: Cells

    /// A matrix of cells [rows, columns], darker where more; `label` of a row or column says what it stands for.
    public struct Cells {
        public var rows: Int
        public var columns: Int
        /// 0 to 1, [rows, columns]; nothing is drawn where it is 0.
        public var darkness: [Double]
        /// The indices at the beginning, in the middle and at the end of the rows and of the columns.
        public var rowLabels: [(cell: Int, label: String)]
        public var columnLabels: [(cell: Int, label: String)]
        public var rowAxis: String
        public var columnAxis: String
        /// heat, dense or seen.
        public var style: String
        /// Whether cells are as high as wide, as far as the picture allows.
        public var isSquare: Bool

        public init(
            rows: Int, columns: Int, darkness: [Double], rowLabels: [(cell: Int, label: String)],
            columnLabels: [(cell: Int, label: String)], rowAxis: String, columnAxis: String, style: String,
            isSquare: Bool = true
        ) {
            self.rows = rows
            self.columns = columns
            self.darkness = darkness
            self.rowLabels = rowLabels
            self.columnLabels = columnLabels
            self.rowAxis = rowAxis
            self.columnAxis = columnAxis
            self.style = style
            self.isSquare = isSquare
        }
    }

    public static func cells(_ cells: Cells, label: String, limitRow: Double? = nil) -> String {
        guard cells.rows > 0, cells.columns > 0 else { return "" }
        let (left, bottom, top, width) = (64.0, 44.0, 8.0, 440.0)
        let most = width - left - 10
        var cellWidth = most / Double(cells.columns)
        var cellHeight = cells.isSquare ? cellWidth : 210 / Double(cells.rows)
        if cells.isSquare {
            // Neither huge cells nor a picture higher than wide.
            (cellWidth, cellHeight) = (min(cellWidth, 28), min(cellHeight, 28))
            let tallest = 300 / Double(cells.rows)
            if cellHeight > tallest { (cellWidth, cellHeight) = (min(cellWidth, max(tallest, 2)), tallest) }
            // A thin strip is stretched.
            if cellWidth * Double(cells.columns) < 120 { cellWidth = 120 / Double(cells.columns) }
            if cellHeight * Double(cells.rows) < 24 { cellHeight = 24 / Double(cells.rows) }
        }
        let (plotWidth, plotHeight) = (cellWidth * Double(cells.columns), cellHeight * Double(cells.rows))
        let height = top + plotHeight + bottom
        var svg = open(width, height, label)
        svg +=
            "<rect class=\"frame\" x=\"\(short(left))\" y=\"\(short(top))\" width=\"\(short(plotWidth))\" height=\"\(short(plotHeight))\"/>"
        func fine(_ x: Double) -> String { "\((x * 100).rounded() / 100)" }
        for row in 0..<cells.rows {
            var column = 0
            while column < cells.columns {
                let darkness = cells.darkness[row * cells.columns + column]
                let first = column
                while column < cells.columns && cells.darkness[row * cells.columns + column] == darkness { column += 1 }
                guard darkness > 0 else { continue }
                svg +=
                    "<rect class=\"\(cells.style)\" x=\"\(fine(left + cellWidth * Double(first)))\" y=\"\(fine(top + cellHeight * Double(row)))\" width=\"\(fine(cellWidth * Double(column - first)))\" height=\"\(fine(cellHeight))\"\(darkness < 1 ? " fill-opacity=\"\(fine(darkness))\"" : "")/>"
            }
        }
        if let limitRow {
            let y = top + cellHeight * limitRow
            svg += line(left, y, left + plotWidth, y, "limit")
        }
        for (cell, label) in cells.rowLabels {
            svg += text(left - 6, top + cellHeight * (Double(cell) + 0.5) + 4, label, anchor: "end")
        }
        for (cell, label) in cells.columnLabels {
            let x = left + cellWidth * (Double(cell) + 0.5)
            svg += text(min(x, width - 4 - 3.5 * Double(label.count)), top + plotHeight + 15, label)
        }
        svg += text(left + plotWidth / 2, height - 8, cells.columnAxis)
        svg +=
            "<text transform=\"translate(13,\(short(top + plotHeight / 2))) rotate(-90)\" text-anchor=\"middle\">\(Page.escaped(plotHeight < 7 * Double(cells.rowAxis.count) ? "" : cells.rowAxis))</text>"
        return svg + "</svg>"
    }

    // MARK: Curves

    /// Values by index: a thin line of all, and a thick one of the mean over the last `window`. At most two points a pixel.
    public static func curve(
        _ values: [Float], first: Int, window: Int, label: String, xAxis: String
    ) -> String {
        let finite = values.filter(\.isFinite)
        guard let low = finite.min(), let high = finite.max(), values.count > 1 else { return "" }
        let (width, height, left, bottom) = (720.0, 320.0, 44.0, 36.0)
        let (least, most) = (Double(low).rounded(.down), max(Double(high).rounded(.up), Double(low) + 1))
        func x(_ index: Int) -> Double { left + (width - left - 10) * Double(index) / Double(values.count - 1) }
        func y(_ value: Double) -> Double { 10 + (height - bottom - 10) * (most - value) / (most - least) }
        var svg = open(width, height, label)
        let stride = most - least > 8 ? 2.0 : most - least > 3 ? 1.0 : 0.5
        var tick = least
        while tick <= most {
            svg +=
                line(left, y(tick), width - 10, y(tick), "grid") + text(left - 8, y(tick) + 4, "\(tick)", anchor: "end")
            tick += stride
        }
        for part in 0...4 {
            let index = (values.count - 1) * part / 4
            svg += text(x(index), height - 16, "\(first + index)", anchor: part == 4 ? "end" : "middle")
        }
        svg += text(width / 2, height - 2, xAxis)
        let every = max(1, values.count / 1440)
        var (points, means) = ("", "")
        var sum = 0.0
        for (index, value) in values.enumerated() {
            sum += Double(value)
            if index >= window { sum -= Double(values[index - window]) }
            guard index % every == 0, value.isFinite else { continue }
            points += "\(short(x(index))),\(short(y(Double(value)))) "
            means += "\(short(x(index))),\(short(y(sum / Double(min(index + 1, window))))) "
        }
        return svg
            + "<polyline class=\"one\" points=\"\(points)\"/><polyline class=\"mean\" points=\"\(means)\"/></svg>"
    }
}
