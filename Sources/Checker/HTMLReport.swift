import JSON
import Pages
import Platform

/// A report as a page: the table of the text report, and for each output that does not conform its elements, and pictures of where and how large
/// its errors are. One file without scripts, fonts or pictures from elsewhere.
public struct HTMLReport {
    /// How many outputs that do not conform are shown in detail; pictures are there if judging kept them (``JudgingOptions/pictures``).
    public var detailLimit: Int

    /// Of the table of outputs that do not conform.
    private static let mostRows = 40

    public init(detailLimit: Int = 8) { self.detailLimit = detailLimit }

    public func text(_ report: Report) -> String {
        var page = Page(title: "Touchstone: \(report.subject)")
        page.heading("Touchstone", level: 1)
        page.paragraph(report.subject, style: "soft")
        let outputs = report.cases.flatMap(\.outputs)
        let word = report.judgement.word
        page.paragraph(word.prefix(1) + word.dropFirst().lowercased(), style: report.conforms ? "good" : "bad")
        page.facts(
            [("outputs judged", "\(outputs.count) in \(counted(report.cases.count, "case"))")]
                + Verdict.allCases.filter { report.count($0) > 0 }.map { ($0.rawValue, "\(report.count($0))") }
                + (report.skipped.isEmpty ? [] : [("skipped, no output given", counted(report.skipped.count, "case"))])
                + [
                    ("elements", "\(outputs.reduce(0) { $0 + $1.elements })"),
                    ("of other bits", "\(outputs.reduce(0) { $0 + $1.mismatches })"),
                ])
        page.heading("By operation")
        page.table(TextReport.rows(report), numbersFrom: 2)

        let failing = report.cases.flatMap { one in one.outputs.filter { !$0.verdict.conforms }.map { (one, $0) } }
        if !failing.isEmpty { page.heading("Outputs that do not conform") }
        if failing.count > 1 {
            page.table(
                [["case", "output", "operation", "verdict", "policy", "elements", "differ", "beyond the policy"]]
                    + failing.prefix(Self.mostRows).map { one, output in
                        [
                            one.name, output.name, one.op, output.verdict.rawValue, output.policy.description,
                            "\(output.elements)", "\(output.mismatches)", "\(output.failures)",
                        ]
                    }, numbersFrom: 5)
            if failing.count > Self.mostRows {
                page.paragraph("and \(failing.count - Self.mostRows) more", style: "soft")
            }
        }
        var shownMasks: Set<String> = []
        let failures = report.failures
        for failure in failures.prefix(detailLimit) {
            page.parts.append("<section>")
            if failure.members.count == 1, let (one, output) = failure.members.first {
                let isFirst = shownMasks.insert("\(one.file)/\(one.name)").inserted
                details(one, output, mask: isFirst ? one.mask : nil, &page)
            } else {
                page.heading("\(failure.verdict.rawValue): \(counted(failure.members.count, "output"))")
                page.preformatted(failure.note ?? "")
                page.paragraph("\(failure.extent); first \(failure.first)", style: "soft")
            }
            page.parts.append("</section>")
        }
        if failures.count > detailLimit {
            let rest = failures.dropFirst(detailLimit).reduce(0) { $0 + $1.members.count }
            page.paragraph("\(rest) more \(rest == 1 ? "is" : "are") not shown in detail.", style: "soft")
        }
        if !report.differences.isEmpty {
            page.heading("Other differences")
            page.preformatted(report.differences.prefix(100).joined(separator: "\n"))
        }
        if !report.skipped.isEmpty {
            page.heading("Skipped: the implementation gives no output for them")
            page.facts(report.skippedOperationsBySuite.map { ($0.suite, $0.operations) })
        }
        if !report.notes.isEmpty {
            page.heading("Notes")
            page.preformatted(report.notes.prefix(100).joined(separator: "\n"))
        }
        return page.html
    }

    private func details(_ one: CaseReport, _ output: OutputReport, mask: MaskPicture?, _ page: inout Page) {
        page.heading("\(one.name): outputs/\(output.name)")
        page.parts.append(
            "<p><span class=\"bad\">\(Page.escaped(output.verdict.rawValue))</span> <span class=\"soft\">\(Page.escaped("\(one.suite), \(one.op), policy \(output.policy)"))</span></p>"
        )
        if !one.why.isEmpty { page.paragraph("The case: \(one.why)") }
        if let recipe = try? JSONValue.object(one.recipe).text(), recipe != "{}" {
            page.parts.append("<p class=\"soft\"><code>\(Page.escaped(recipe))</code></p>")
        }
        if let note = output.note { page.paragraph(note, style: "bad") }
        guard output.mismatches > 0 else { return }
        page.paragraph(
            "\(output.mismatches) of \(counted(output.elements, "element")) \(output.elements == 1 ? "differs" : "differ"), \(output.failures) beyond the policy."
        )
        if let statistics = output.statistics {
            page.table(
                [
                    ["errors over their bound", "found", "allowed"],
                    ["largest", statistics.largest.short, "1"],
                    ["mean", statistics.mean.short, "\u{B1}" + statistics.meanLimit.short],
                    ["mean away from zero", statistics.outwardMean.short, "\u{B1}" + statistics.outwardLimit.short],
                    ["variance", statistics.variance.short, statistics.varianceLimit.short],
                ], numbersFrom: 1)
        }
        elements(output, &page)
        var pictures: [(svg: String, caption: String)] = []
        if let bars = histogram(output) { pictures.append(bars) }
        if let found = output.pictures {
            pictures.append(density(found))
            pictures.append(heatMap(found.heatMap))
        }
        if let mask { pictures.append(picture(mask)) }
        page.figures(pictures)
    }

    /// The first, the worst and the last element, in bits, decimal and fields, with the inputs that made them.
    private func elements(_ output: OutputReport, _ page: inout Page) {
        var body: [String] = []
        var shown: Set<Int> = []
        for (label, detail) in [("first", output.first), ("worst", output.worst), ("last", output.last)] {
            guard let detail, shown.insert(detail.index).inserted else { continue }
            var head = "\(label) at [\(detail.position.map(String.init).joined(separator: ", "))]"
            if let ulps = detail.ulps { head += ", \(ulps) ulp" }
            if let share = detail.shareOfBound { head += ", \(share.short) of the bound" }
            body.append("<tr><th colspan=\"4\" scope=\"rowgroup\">\(Page.escaped(head))</th></tr>")
            for (name, text) in [("expected", detail.expected), ("got", detail.got)] {
                let cells = [text.bits, text.decimal, text.fields ?? ""]
                    .map { "<td class=\"mono\">\(Page.escaped($0))</td>" }.joined()
                body.append("<tr><td>\(name)</td>\(cells)</tr>")
            }
            for input in detail.inputs {
                body.append(
                    "<tr><td>\(Page.escaped(input.name))</td><td colspan=\"3\" class=\"mono wrap\">\(Page.escaped(input.text))</td></tr>"
                )
            }
        }
        page.parts.append(
            "<div class=\"scroll\" tabindex=\"0\"><table class=\"grid-table\"><tbody>\(body.joined(separator: "\n"))</tbody></table></div>"
        )
    }

    // MARK: Pictures

    private func histogram(_ output: OutputReport) -> (svg: String, caption: String)? {
        guard let farthest = output.histogram.farthest ?? (output.histogram.incomparable > 0 ? 0 : nil) else {
            return nil
        }
        var bars = (0...farthest).map {
            (label: $0 < 3 ? "\($0)" : $0 == 33 ? "more" : power2($0 - 1), count: output.histogram.counts[$0])
        }
        if output.histogram.incomparable > 0 { bars.append(("NaN", output.histogram.incomparable)) }
        return (
            Plots.bars(bars, xAxis: "units in the last place apart, up to", firstIsRight: true),
            "Elements by distance from the right bits, logarithmic; green: the right bits."
        )
    }

    private func density(_ pictures: ErrorPictures) -> (svg: String, caption: String) {
        let bins = pictures.density.compactMap { bin, count in bin.magnitude.map { (x: $0, y: bin.error, count: count) }
        }
        guard let left = bins.map(\.x).min(), let right = bins.map(\.x).max(), let lowest = bins.map(\.y).min(),
            let highest = bins.map(\.y).max()
        else { return ("", "") }
        // The limit, a share of 1, is always in the picture.
        let (bottom, top) = pictures.isShareOfBound ? (min(lowest, -2), max(highest, 0)) : (lowest, highest)
        let (rows, spread) = (top - bottom + 1, right - left + 1)
        let columns = min(64, spread)
        var counts = [Int](repeating: 0, count: rows * columns)
        for bin in bins { counts[(top - bin.y) * columns + (bin.x - left) * columns / spread] += bin.count }
        func label(_ error: Int) -> String {
            pictures.isShareOfBound ? power2(error / 2) : UlpHistogram.label(error)
        }
        let every = max(1, (rows + 5) / 6)
        let rowLabels = (0..<rows).filter { row in
            pictures.isShareOfBound ? (top - row) % (2 * max(1, (every + 1) / 2)) == 0 : row % every == 0
        }
        .map { (cell: $0, label: label(top - $0)) }
        let columnLabels = Set([0, columns / 2, columns - 1]).sorted().map {
            (cell: $0, label: power2(left + $0 * spread / columns))
        }
        let cells = Plots.Cells(
            rows: rows, columns: columns, darkness: darkness(counts), rowLabels: rowLabels, columnLabels: columnLabels,
            rowAxis: pictures.isShareOfBound ? "share of the bound" : "ulps",
            columnAxis: "magnitude of the right value",
            style: "dense", isSquare: false)
        let what = pictures.isShareOfBound ? "error as a share of its bound" : "error in units in the last place"
        return (
            Plots.cells(
                cells, label: "Density of \(what) against magnitude, both logarithmic",
                limitRow: pictures.isShareOfBound ? Double(top + 1) : nil),
            "Elements that differ: \(what) against the magnitude of the right value, both logarithmic, darker where there are more."
                + (pictures.isShareOfBound ? " The dashed line is the bound." : "")
        )
    }

    private func heatMap(_ map: ErrorPictures.HeatMap) -> (svg: String, caption: String) {
        func labels(_ size: Int, _ cells: Int) -> [(cell: Int, label: String)] {
            Set([0, cells / 2, cells - 1]).sorted().map {
                let range = ErrorPictures.HeatMap.range($0, of: size, in: cells)
                return ($0, $0 == cells - 1 ? "\(size - 1)" : "\(range.lowerBound)")
            }
        }
        // The share of a cell's elements that differ.
        var shares: [Double] = []
        for row in 0..<map.cellRows {
            let height = ErrorPictures.HeatMap.range(row, of: map.rows, in: map.cellRows).count
            for column in 0..<map.cellColumns {
                let width = ErrorPictures.HeatMap.range(column, of: map.columns, in: map.cellColumns).count
                let share =
                    Double(map.counts[row * map.cellColumns + column]) / Double(max(1, height * width * map.leading))
                // What differs at all is seen; eight shades are told apart.
                shares.append(share == 0 ? 0 : 0.2 + 0.8 * (share * 8).rounded(.up) / 8)
            }
        }
        let cells = Plots.Cells(
            rows: map.cellRows, columns: map.cellColumns, darkness: shares,
            rowLabels: map.rows == 1 ? [] : labels(map.rows, map.cellRows),
            columnLabels: labels(map.columns, map.cellColumns), rowAxis: "last index but one", columnAxis: "last index",
            style: "heat")
        return (
            Plots.cells(cells, label: "Where in the tensor elements differ"),
            "Where elements differ, of \(map.rows) x \(map.columns)"
                + (map.leading == 1 ? "" : ", \(map.leading) such matrices on top of one another")
                + ", darker where more of a cell's do."
        )
    }

    private func picture(_ mask: MaskPicture) -> (svg: String, caption: String) {
        func labels(_ size: Int, _ cells: Int) -> [(cell: Int, label: String)] {
            Set([0, cells / 2, cells - 1]).sorted().map { ($0, "\($0 == cells - 1 ? size - 1 : $0 * size / cells)") }
        }
        let cells = Plots.Cells(
            rows: mask.cellRows, columns: mask.cellColumns, darkness: mask.visible,
            rowLabels: labels(mask.queries, mask.cellRows), columnLabels: labels(mask.keys, mask.cellColumns),
            rowAxis: "query", columnAxis: "key", style: "seen")
        return (
            Plots.cells(cells, label: "The visibility mask of the case"),
            "The case's visibility mask, first batch entry: which key (across) each query (down) sees."
        )
    }

    /// The logarithm of a count as one of eight shades.
    private func darkness(_ counts: [Int]) -> [Double] {
        let most = Double(max(1, (counts.max() ?? 1).bitWidth - (counts.max() ?? 1).leadingZeroBitCount))
        return counts.map { count in
            count == 0
                ? 0 : 0.2 + 0.8 * (Double(count.bitWidth - count.leadingZeroBitCount) / most * 8).rounded(.up) / 8
        }
    }

    private func power2(_ exponent: Int) -> String { exponent == 0 ? "1" : "2^\(exponent)" }
}
