import Pages
import Studies
import Testing

@Suite("Numbers and pictures of studies")
struct PageNumbersTests {
    @Test("the interval of a mean is Student's")
    func estimate() {
        let estimate = Estimate([1, 2, 3, 4, 5])
        #expect(estimate.mean == 3)
        #expect(abs(estimate.standardDeviation - 1.5811388300841898) < 1e-15)
        // 2.776 sqrt(2.5 / 5)
        #expect(abs((estimate.halfWidth ?? 0) - 1.9629284) < 1e-6)
        #expect(estimate.isSignificant)
        #expect(!Estimate([-1, 1.5]).isSignificant)
        let alone = Estimate([7])
        #expect(alone.mean == 7 && alone.halfWidth == nil && alone.standardDeviation == 0 && !alone.isSignificant)
        #expect(Estimate([0.5, 0.5]).text(3, signed: true) == "+0.500 \u{B1} 0.000")
    }

    @Test(
        "numbers as people read them",
        arguments: [
            (0.0, "0"), (1, "1"), (-1.5, "-1.5"), (0.375, "0.375"), (0.0123, "0.0123"), (123_456, "1.23e5"),
            (99_999, "99999"),
            (1e-7, "1e-7"), (9.9999e-8, "1e-7"), (2.5e-10, "2.5e-10"), (-4096, "-4096"), (.infinity, "inf"),
            (12.34, "12.3"),
        ])
    func numbers(_ value: Double, _ text: String) { #expect(Number.text(value) == text) }

    @Test("fixed decimals round to nearest, without a negative zero")
    func fixed() {
        #expect(Number.fixed(1.25, 1) == "1.3" && Number.fixed(-0.04, 1) == "0.0" && Number.fixed(-0.06, 1) == "-0.1")
        #expect(Number.fixed(2, 0) == "2" && Number.fixed(1.005, 4) == "1.0050")
    }

    /// Every number of the SVG's attributes.
    private func coordinates(_ svg: String) -> [Double] {
        var numbers: [Double] = []
        for match in svg.matches(of: #/ (?:x|y|x1|x2|y1|y2|cx|cy)="([-0-9.e]+)"/#) {
            if let number = Double(match.1) { numbers.append(number) }
        }
        return numbers
    }

    @Test("a chart stays within its frame on every scale, and leaves out what has no place on it")
    func chart() {
        let points = [
            Chart.Point(0, -3), Chart.Point(1, 2, spread: 5), Chart.Point(4, 1e-9), Chart.Point(1e6, 7),
            Chart.Point(2, .nan),
            Chart.Point(.infinity, 1),
        ]
        for xScale in [Chart.Scale.linear, .decades, .octaves] {
            for yScale in [Chart.Scale.linear, .decades, .octaves] {
                var chart = Chart(
                    "A <title>", x: "x", y: "y", xScale: xScale, yScale: yScale,
                    [Chart.Series("one", points), Chart.Series("two", [Chart.Point(3, 3)])])
                chart.references = [(2, "limit"), (-1, "below")]
                let svg = chart.svg
                #expect(svg.contains("A &lt;title&gt;") && svg.hasSuffix("</svg>"))
                #expect(!svg.contains("nan") && !svg.contains("inf"))
                let all = coordinates(svg)
                #expect(
                    all.count > 10 && all.allSatisfy { $0 >= -1 && $0 <= 460 },
                    "\(xScale) \(yScale): \(all.filter { $0 < -1 || $0 > 460 })")
            }
        }
        #expect(Chart("none", x: "x", y: "y", [Chart.Series("one", [])]).svg.isEmpty)
        #expect(Chart("none", x: "x", y: "y", yScale: .decades, [Chart.Series("one", [Chart.Point(1, 0)])]).svg.isEmpty)
        #expect(!Chart("one point", x: "x", y: "y", [Chart.Series("one", [Chart.Point(1, 1)])]).svg.isEmpty)
    }

    @Test("intervals stand about 0 and within the frame")
    func intervals() {
        let svg = Chart.intervals("t", axis: "a", [("first", 0.5, 0.2), ("second", -3, nil), ("third", .nan, nil)])
        #expect(svg.contains("first") && svg.contains("second") && !svg.contains("third"))
        #expect(coordinates(svg).allSatisfy { $0 >= 0 && $0 <= 420 })
        #expect(Chart.intervals("t", axis: "a", []).isEmpty)
    }
}
