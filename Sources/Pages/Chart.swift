/// Lines, points and bands over two numeric axes, with a legend below; SVG that takes its colours from the page it stands in (``Page``).
///
/// Series differ in colour, dash and marker, so that they can be told apart without colours.
public struct Chart: Sendable {
    /// A named line through points.
    public struct Series: Sendable {
        public var name: String
        public var points: [Point]
        /// Whether the points are joined.
        public var isJoined = true
        /// Whether each point has a marker.
        public var isMarked = true

        public init(_ name: String, _ points: [Point], isJoined: Bool = true, isMarked: Bool = true) {
            (self.name, self.points, self.isJoined, self.isMarked) = (name, points, isJoined, isMarked)
        }
    }

    /// A place, and how far it may be off upwards and downwards.
    public struct Point: Sendable {
        public var x: Double
        public var y: Double
        public var spread: Double?

        public init(_ x: Double, _ y: Double, spread: Double? = nil) { (self.x, self.y, self.spread) = (x, y, spread) }
    }

    /// How numbers become places.
    public enum Scale: Sendable {
        case linear
        /// Ticks at powers of ten.
        case decades
        /// Ticks at powers of two.
        case octaves
    }

    public var title: String
    public var xAxis: String
    public var yAxis: String
    public var xScale = Scale.linear
    public var yScale = Scale.linear
    public var series: [Series]
    /// Horizontal lines with a name: what would be right, or a limit.
    public var references: [(y: Double, name: String)] = []
    /// Whether a linear axis of y begins at 0.
    public var beginsAtZero = false

    public init(
        _ title: String, x xAxis: String, y yAxis: String, xScale: Scale = .linear, yScale: Scale = .linear,
        _ series: [Series]
    ) {
        (self.title, self.xAxis, self.yAxis, self.series) = (title, xAxis, yAxis, series)
        (self.xScale, self.yScale) = (xScale, yScale)
    }

    /// As many styles as there are; more series begin again.
    static let styles = 8

    /// The picture; empty where there is no finite point.
    public var svg: String {
        let shown = series.map { one in
            Series(
                one.name, one.points.filter { Self.isShown($0.x, xScale) && Self.isShown($0.y, yScale) },
                isJoined: one.isJoined, isMarked: one.isMarked)
        }
        let points = shown.flatMap(\.points)
        guard !points.isEmpty else { return "" }
        let lows = points.map { point in
            point.spread.map { Self.isShown(point.y - $0, yScale) ? point.y - $0 : point.y } ?? point.y
        }
        let highs = points.map { $0.y + ($0.spread ?? 0) }
        var ys = lows + highs + references.map(\.y).filter { Self.isShown($0, yScale) }
        if beginsAtZero && yScale == .linear { ys.append(0) }
        let x = Axis(points.map(\.x), xScale, places: 6)
        let y = Axis(ys, yScale, places: 6)
        // Room for the longest number beside the axis.
        let left = max(62.0, 26 + 7.2 * Double(y.ticks.map(\.label.count).max() ?? 0))
        let (width, right, top, plotHeight) = (420.0, 14.0, 26.0, 220.0)
        let bottom = top + plotHeight
        let columns = shown.contains { $0.name.count > 24 } ? 1 : 2
        let entries = shown.count > 1 ? shown : []
        let rows = (entries.count + columns - 1) / columns
        let height = bottom + 42 + 18 * Double(rows)
        func placeX(_ value: Double) -> Double { left + (width - left - right) * x.fraction(value) }
        func placeY(_ value: Double) -> Double { bottom - plotHeight * min(1, max(0, y.fraction(value))) }

        var svg = Plots.open(width, height, "\(title): \(yAxis) against \(xAxis)")
        svg += Plots.text(12, 14, title, anchor: "start", style: "ink")
        for tick in y.ticks {
            svg += Plots.line(left, placeY(tick.value), width - right, placeY(tick.value), "grid")
            svg += Plots.text(left - 6, placeY(tick.value) + 4, tick.label, anchor: "end")
        }
        for tick in x.ticks {
            svg += Plots.line(placeX(tick.value), bottom, placeX(tick.value), bottom + 4, "axis")
            svg += Plots.text(placeX(tick.value), bottom + 18, tick.label)
        }
        svg += Plots.line(left, bottom, width - right, bottom, "axis")
        var labels: [Double] = []
        for reference in references where Self.isShown(reference.y, yScale) {
            let place = placeY(reference.y)
            svg += Plots.line(left, place, width - right, place, "limit")
            // Names that would lie on each other stand side by side.
            let beside = labels.count { abs($0 - place) < 14 }
            labels.append(place)
            svg += Plots.text(width - right - 2 - 120 * Double(beside), place - 4, reference.name, anchor: "end")
        }
        for (index, one) in shown.enumerated() {
            let style = "s\(index % Self.styles)"
            for point in one.points {
                guard let spread = point.spread, spread > 0 else { continue }
                let low = Self.isShown(point.y - spread, yScale) ? placeY(point.y - spread) : bottom
                svg += Plots.line(placeX(point.x), low, placeX(point.x), placeY(point.y + spread), "whisker \(style)")
            }
            if one.isJoined && one.points.count > 1 {
                let path = one.points.map { "\(Plots.short(placeX($0.x))),\(Plots.short(placeY($0.y)))" }
                svg += "<polyline class=\"line \(style)\" points=\"\(path.joined(separator: " "))\"/>"
            }
            if one.isMarked || one.points.count == 1 {
                for point in one.points { svg += Self.marker(index, placeX(point.x), placeY(point.y)) }
            }
        }
        svg += Plots.text(left + (width - left - right) / 2, bottom + 36, xAxis)
        svg +=
            "<text transform=\"translate(12,\(Plots.short(top + plotHeight / 2))) rotate(-90)\" text-anchor=\"middle\">\(Page.escaped(yAxis))</text>"
        for (index, one) in entries.enumerated() {
            let at = (
                x: 12 + Double(index % columns) * (width - 22) / Double(columns),
                y: bottom + 52 + 18 * Double(index / columns)
            )
            if one.isJoined {
                svg += Plots.line(at.x, at.y, at.x + 26, at.y, "line s\(index % Self.styles)")
            }
            svg += Self.marker(index, at.x + 13, at.y) + Plots.text(at.x + 32, at.y + 4, one.name, anchor: "start")
        }
        return svg + "</svg>"
    }

    /// Names below each other, each with a value and how far it may be off, about a vertical line at 0.
    public static func intervals(
        _ title: String, axis: String, _ rows: [(name: String, value: Double, halfWidth: Double?)]
    ) -> String {
        let finite = rows.filter { $0.value.isFinite }
        guard !finite.isEmpty else { return "" }
        var ends = [0.0]
        for row in finite { ends += [row.value - (row.halfWidth ?? 0), row.value + (row.halfWidth ?? 0)] }
        let x = Axis(ends, .linear, places: 4)
        let (width, left, right, top, line) = (420.0, 140.0, 14.0, 26.0, 22.0)
        let bottom = top + line * Double(finite.count) + 6
        func place(_ value: Double) -> Double { left + (width - left - right) * x.fraction(value) }
        var svg = Plots.open(
            width, bottom + 44,
            "\(title): \(finite.map { "\($0.name) \(Number.text($0.value))" }.joined(separator: ", "))")
        svg += Plots.text(12, 14, title, anchor: "start", style: "ink")
        for tick in x.ticks {
            svg += Plots.line(place(tick.value), top, place(tick.value), bottom, "grid")
            svg += Plots.text(place(tick.value), bottom + 18, tick.label)
        }
        svg += Plots.line(place(0), top, place(0), bottom, "limit")
        for (index, row) in finite.enumerated() {
            let y = top + line * (Double(index) + 0.6)
            svg += Plots.text(left - 8, y + 4, row.name, anchor: "end")
            if let half = row.halfWidth {
                svg += Plots.line(place(row.value - half), y, place(row.value + half), y, "whisker s0")
            }
            svg += marker(0, place(row.value), y)
        }
        svg += Plots.line(left, bottom, width - right, bottom, "axis")
        return svg + Plots.text(left + (width - left - right) / 2, bottom + 36, axis) + "</svg>"
    }

    private static func isShown(_ value: Double, _ scale: Scale) -> Bool {
        value.isFinite && (scale == .linear || value > 0)
    }

    /// A circle, a square, a triangle or a diamond.
    private static func marker(_ index: Int, _ x: Double, _ y: Double) -> String {
        let style = "marker s\(index % styles)"
        let (a, b, c, d) = (Plots.short(x - 3.5), Plots.short(x + 3.5), Plots.short(y - 3.5), Plots.short(y + 3.5))
        let (h, v) = (Plots.short(x), Plots.short(y))
        return switch index % 4 {
        case 0: "<circle class=\"\(style)\" cx=\"\(h)\" cy=\"\(v)\" r=\"3.3\"/>"
        case 1: "<polygon class=\"\(style)\" points=\"\(a),\(c) \(b),\(c) \(b),\(d) \(a),\(d)\"/>"
        case 2: "<polygon class=\"\(style)\" points=\"\(h),\(c) \(b),\(d) \(a),\(d)\"/>"
        default: "<polygon class=\"\(style)\" points=\"\(h),\(c) \(b),\(v) \(h),\(d) \(a),\(v)\"/>"
        }
    }

    /// The range of an axis and what is written at it.
    private struct Axis {
        let low: Double
        let high: Double
        let scale: Scale
        let ticks: [(value: Double, label: String)]

        init(_ values: [Double], _ scale: Scale, places: Int) {
            self.scale = scale
            let (least, most) = (values.min() ?? 0, values.max() ?? 1)
            switch scale {
            case .linear:
                let span = most > least ? most - least : max(abs(most), 1e-9)
                var step = Self.power(of: 10, Int((Plots.logarithm(span / Double(places))).rounded(.down)))
                for factor in [1.0, 2, 5, 10] where span / (step * factor) <= Double(places) {
                    step *= factor
                    break
                }
                low = (least / step).rounded(.down) * step
                high = most > least ? (most / step).rounded(.up) * step : low + step
                let count = Int(((high - low) / step).rounded())
                let first = low
                ticks = (0...max(1, count)).map { index in
                    let value = first + Double(index) * step
                    return (value, Number.text(value, step: step))
                }
            case .decades, .octaves:
                let base = scale == .decades ? 10.0 : 2.0
                func exponent(_ x: Double) -> Double {
                    scale == .decades ? Plots.logarithm(x) : Plots.logarithm(x) / 0.30103
                }
                // The logarithm is good to three digits.
                let first = Int((exponent(least) + 0.004).rounded(.down))
                let last = max(first + 1, Int((exponent(most) - 0.004).rounded(.up)))
                (low, high) = (Self.power(of: base, first), Self.power(of: base, last))
                let stride = max(1, (last - first + places) / (places + 1))
                ticks = Swift.stride(from: first, through: last, by: stride).map { exponent in
                    let value = Self.power(of: base, exponent)
                    // Powers of two below 1 as people say them.
                    let isFraction = scale == .octaves && exponent < 0 && exponent > -14
                    return (value, isFraction ? "1/\(1 << -exponent)" : Number.text(value))
                }
            }
        }

        func fraction(_ value: Double) -> Double {
            guard scale != .linear else { return (value - low) / (high - low) }
            let (a, b) = (Plots.logarithm(low), Plots.logarithm(high))
            return (Plots.logarithm(value) - a) / (b - a)
        }

        private static func power(of base: Double, _ exponent: Int) -> Double {
            var result = 1.0
            for _ in 0..<abs(exponent) { result *= base }
            return exponent < 0 ? 1 / result : result
        }
    }
}

/// Numbers as people read them.
public enum Number {
    /// As many decimals as a step of an axis needs.
    static func text(_ value: Double, step: Double) -> String {
        if abs(value) < step / 1000 { return "0" }
        if abs(value) >= 1e6 || step < 1e-5 { return text(value) }
        var (decimals, unit) = (0, 1.0)
        while decimals < 6 && abs(step / unit - (step / unit).rounded()) > 1e-6 * abs(step / unit) {
            decimals += 1
            unit /= 10
        }
        return fixed(value, decimals)
    }

    /// Three digits, or a power: 0.0123, 1.5e-7, 40000.
    public static func text(_ value: Double) -> String {
        guard value.isFinite else { return "\(value)" }
        if value == 0 { return "0" }
        let size = abs(value)
        if size >= 1e5 || size < 1e-3 {
            var (mantissa, exponent) = (value, 0)
            while abs(mantissa) >= 9.995 {
                mantissa /= 10
                exponent += 1
            }
            while abs(mantissa) < 0.9995 {
                mantissa *= 10
                exponent -= 1
            }
            var digits = fixed(mantissa, 2)
            while digits.hasSuffix("0") { digits.removeLast() }
            if digits.hasSuffix(".") { digits.removeLast() }
            return "\(digits)e\(exponent)"
        }
        var digits = fixed(
            value, size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.1 ? 3 : size >= 0.01 ? 4 : 5)
        if digits.contains(".") {
            while digits.hasSuffix("0") { digits.removeLast() }
            if digits.hasSuffix(".") { digits.removeLast() }
        }
        return digits
    }

    /// With so many digits after the point.
    public static func fixed(_ value: Double, _ decimals: Int) -> String {
        guard value.isFinite, abs(value) < 1e15 else { return "\(value)" }
        var unit = 1.0
        for _ in 0..<decimals { unit *= 10 }
        let scaled = (abs(value) * unit).rounded()
        guard scaled < 9e18 else { return "\(value)" }
        let whole = UInt64(scaled)
        let sign = value < 0 && whole > 0 ? "-" : ""
        guard decimals > 0 else { return "\(sign)\(whole)" }
        let rest = String(whole % UInt64(unit))
        return "\(sign)\(whole / UInt64(unit)).\(String(repeating: "0", count: decimals - rest.count))\(rest)"
    }
}
