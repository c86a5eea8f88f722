import Engine
import ModelSpec
import Pages
import TrainingData

func fixed(_ value: Double, _ decimals: Int) -> String { Number.fixed(value, decimals) }

/// An experiment that shows what a technique does: pictures, numbers, and one sentence that says what was found.
public struct Study: Sendable {
    public let name: String
    public let summary: String
    /// Steps of each training run, and seeds, if nothing else is asked for.
    public let steps: Int
    public let seeds: Int
    let run: @Sendable (inout Laboratory) throws -> StudyResult

    /// All, in the order of the documentation.
    public static let all = [squinch, zreg, clamp, visibility, gumbel, precision]

    public static func named(_ name: String) -> Study? { all.first { $0.name == name } }

    /// Runs the experiment.
    ///
    /// - Parameters:
    ///   - corpus: the texts to train on, cut into sequences of a length.
    ///   - progress: is told what is done, of 1, and what is under way; what it throws ends the study.
    /// - Throws: what the corpus, the engine and `progress` throw.
    public func result(
        _ options: StudyOptions, context: EngineContext, corpus: @escaping (Int) throws -> TrainingCorpus,
        progress: @escaping (_ done: Double, _ what: String) throws -> Void
    ) throws -> StudyResult {
        var laboratory = Laboratory(
            context: context, options: options, steps: options.steps ?? steps, seeds: options.seeds ?? seeds,
            makeCorpus: corpus, progress: progress)
        return try run(&laboratory)
    }
}

/// A text that no study can be made on.
public struct StudyError: Error, Hashable, Sendable, CustomStringConvertible {
    let length: Int
    public var description: String {
        "the text is too short: none of its sequences of \(length) tokens is held out, expected two sequences or more"
    }
}

/// What a user may ask of a study.
public struct StudyOptions: Sendable {
    /// nil: the study's own.
    public var steps: Int?
    public var seeds: Int?
    /// Of the first run; run i has this plus i.
    public var seed: UInt64 = 1
    /// The width of the models; all other sizes follow.
    public var width = 64

    public init() {}
}

/// What came out.
public struct StudyResult: Sendable {
    public let title: String
    /// One sentence, with its uncertainty.
    public let finding: String
    /// What was done, for people who want to do it again.
    public var method: [String]
    /// Names and values.
    public var facts: [(String, String)] = []
    public var sections: [Section] = []
    /// Every number behind the pictures: a head, then rows.
    public var csv: [[String]]

    /// Pictures with the numbers beside them.
    public struct Section: Sendable {
        public var title: String
        public var text: String?
        /// SVG, and what it shows.
        public var charts: [(svg: String, caption: String)] = []
        public var table: [[String]] = []
        /// The first column of the table that holds numbers.
        public var numbersFrom = 1

        init(
            _ title: String, text: String? = nil, charts: [(chart: Chart, caption: String)] = [],
            table: [[String]] = [], numbersFrom: Int = 1
        ) {
            (self.title, self.text) = (title, text)
            self.charts = charts.map { ($0.chart.svg, $0.caption) }
            (self.table, self.numbersFrom) = (table, numbersFrom)
        }
    }

    init(_ title: String, finding: String, method: [String], csv: [[String]]) {
        (self.title, self.finding, self.method, self.csv) = (title, finding, method, csv)
    }

    /// One page without a network.
    public func html(command: String) -> String {
        var page = Page(title: title)
        page.heading(title, level: 1)
        page.paragraph(finding)
        page.parts.append("<p><code>\(Page.escaped(command))</code></p>")
        page.facts(facts)
        for section in sections {
            page.heading(section.title)
            if let text = section.text { page.paragraph(text) }
            page.figures(section.charts)
            if !section.table.isEmpty { page.table(section.table, numbersFrom: section.numbersFrom) }
        }
        page.heading("How it was done")
        for line in method { page.paragraph(line) }
        page.paragraph("What every run and measurement gave stands in the CSV file beside this page.", style: "soft")
        return page.html
    }

    /// RFC 4180.
    public var csvText: String {
        csv.map { row in
            row.map { cell in
                cell.contains { ",\"\n\r".contains($0) } ? "\"\(cell.replacing("\"", with: "\"\""))\"" : cell
            }.joined(separator: ",") + "\r\n"
        }.joined()
    }
}
