import Engine
import ExactMath
import ModelSpec
import Pages
import Platform
import Reference
import TrainingData

extension Study {
    /// What skipping the invisible saves.
    static let visibility = Study(
        name: "visibility",
        summary: "Time of attention and of a step against what is visible; packing and trees against padding.",
        steps: 5, seeds: 1, run: visibilityStudy)

    /// The median of the seconds that `body` takes, of as many repetitions as there are steps.
    private static func median(_ lab: Laboratory, _ what: String, _ body: () throws -> Void) throws -> Double {
        var times: [Double] = []
        try body()
        for _ in 0..<max(1, lab.steps) {
            try lab.pause(what)
            let start = monotonicSeconds()
            try body()
            times.append(monotonicSeconds() - start)
        }
        return times.sorted()[times.count / 2]
    }

    private static func visibilityStudy(_ lab: inout Laboratory) throws -> StudyResult {
        let masks: [(name: String, mask: Benchmark.Mask)] =
            [("full", .full), ("causal", .causal)]
            + [512, 256, 128, 64, 32].map { ("documents of \($0)", .documents($0)) }
            + [256, 128, 64].map { ("window of \($0)", .window($0)) }
        try lab.plan(masks.count + 8)
        let (tokens, heads) = (1024, 8)
        var rows: [(name: String, fraction: Double, seconds: Double)] = []
        for one in masks {
            let item = Benchmark.attention(
                lab.context, batch: 2, heads: heads, tokens: tokens, dimension: 64, mask: one.mask)
            let seconds = try median(lab, "attention, \(one.name)", item.run)
            rows.append((one.name, item.amount / Double(2 * heads * tokens * tokens), seconds))
            try lab.advance("attention, \(one.name)")
        }
        let full = rows[0].seconds

        // Documents of many lengths: packed, and one a sequence.
        let length = 256
        let random = RandomStream(seed: lab.options.seed, stream: RandomStreams.dataOrder, step: 0)
        let documents = (0..<64).map { index in
            16 + Int((UInt64(random.word(UInt64(index))) * UInt64(length - 16)) >> 32)
        }
        var packing: [(name: String, sequences: [TrainingSequence], tokens: Int)] = []
        packing.append(("one document a sequence, padded", try documents.map { try sequence([.flat($0)], length) }, 0))
        packing.append(("packed", try packed(documents.map(Layout.flat), length), 0))
        // A prompt with answers: every answer with a prompt of its own, or a tree.
        let (prompt, answer, branches) = (96, 32, 5)
        packing.append(
            (
                "prompt repeated for each answer, packed",
                try packed((0..<8 * branches).map { _ in .flat(prompt + answer) }, length), 0
            ))
        packing.append(
            (
                "tree: the prompt once, its answers beside each other",
                try packed((0..<8).map { _ in .tree(prompt, (0..<branches).map { _ in answer }) }, length), 0
            ))
        var steps: [(name: String, sequences: Int, useful: Int, visible: Double, seconds: Double)] = []
        for (index, one) in packing.enumerated() {
            var c = ModelConfiguration(preset: .tiny)
            (c.width, c.heads, c.feedForwardWidth, c.sequenceLength) = (256, 8, 1024, length)
            (c.headDimension, c.keyValueHeads) = (32, 2)
            c.batch = 8
            let trainer = Trainer(c, lab.context)
            trainer.initialize()
            var seconds = 0.0
            var visible = 0
            // Full batches; the last is filled up with sequences of the first.
            let list = one.sequences
            let batches = (list.count + 7) / 8
            for batch in 0..<batches {
                let part = (0..<8).map { list[(8 * batch + $0) % list.count] }
                let data = TrainingBatch(part)
                let own = Double(min(8, list.count - 8 * batch)) / 8
                seconds += own * (try median(lab, one.name) { _ = try trainer.step(1, batch: data) })
            }
            for sequence in list { for key in 0..<length { visible += Int(sequence.limit[key] - sequence.start[key]) } }
            let useful =
                index < 2 ? documents.reduce(0, +) : 8 * branches * answer + 8 * prompt
            steps.append(
                (one.name, list.count, useful, Double(visible) / Double(list.count * length * length), seconds))
            try lab.advance(one.name, by: 2)
        }
        let (padded, dense, repeated, tree) = (steps[0], steps[1], steps[2], steps[3])
        let finding =
            "Attention over documents of 64 of \(tokens) tokens sees \(Number.text(100 * rows[5].fraction)) % of all pairs and takes \(Number.text(100 * rows[5].seconds / full)) % of the time of full attention; packing takes \(Number.text(padded.seconds / dense.seconds)) times less time a token than padding, and a tree \(Number.text(repeated.seconds / tree.seconds)) times less than repeating its prompt (medians of \(lab.steps); clocks of one machine, so these figures vary from run to run)."
        var result = StudyResult(
            "The visibility mask: what is not seen is not computed", finding: finding,
            method: [
                "Attention forward and backward: 2 sequences of \(tokens) tokens, \(heads) heads of 64, one head of keys and values; the visible fraction is counted over all pairs of queries and keys.",
                "Training steps: two layers of width 256, batches of 8 sequences of \(length) tokens. 64 documents of 16 to \(length - 1) tokens, drawn from the seed; 8 prompts of \(prompt) tokens with \(branches) answers of \(answer) each. Time is that of all sequences that hold the same documents.",
                "Every time is the median of \(counted(lab.steps, "repetition")) after one that is not counted. Times are measured and differ from run to run; the masks do not.",
            ], csv: [["what", "visible fraction", "seconds"]])
        result.csv += rows.map { [$0.name, Number.text($0.fraction), Number.text($0.seconds)] }
        result.csv += steps.map { [$0.name, Number.text($0.visible), Number.text($0.seconds)] }
        func series(_ name: String, _ keep: (String) -> Bool) -> Chart.Series {
            Chart.Series(
                name,
                rows.filter { keep($0.name) }.map { Chart.Point($0.fraction, $0.seconds / full) }.sorted { $0.x < $1.x }
            )
        }
        let chart = Chart(
            "Time of attention against what is visible", x: "visible fraction of all pairs",
            y: "time / full attention's",
            xScale: .octaves, yScale: .octaves,
            [
                series("documents, causal inside") { $0.hasPrefix("documents") || $0 == "causal" },
                series("windows") { $0.hasPrefix("window") }, series("full") { $0 == "full" },
                Chart.Series(
                    "proportional",
                    [
                        Chart.Point(rows.map(\.fraction).min() ?? 0.01, rows.map(\.fraction).min() ?? 0.01),
                        Chart.Point(1, 1),
                    ],
                    isMarked: false),
            ])
        result.sections = [
            StudyResult.Section(
                "Attention",
                charts: [
                    (
                        chart,
                        "On the line time is proportional to what is visible. Tiles at the mask's edge are computed whole, so short documents lie above it."
                    )
                ],
                table: [["mask", "visible", "time", "of full attention"]]
                    + rows.map {
                        [
                            $0.name, "\(Number.text(100 * $0.fraction)) %", "\(Number.text(1000 * $0.seconds)) ms",
                            "\(Number.text(100 * $0.seconds / full)) %",
                        ]
                    }),
            StudyResult.Section(
                "Steps of training", text: "The same documents laid out in two ways each.",
                table: [["layout", "sequences", "visible", "time of all", "tokens of use a second"]]
                    + steps.map {
                        [
                            $0.name, "\($0.sequences)", "\(Number.text(100 * $0.visible)) %",
                            "\(Number.text(1000 * $0.seconds)) ms", Number.text(Double($0.useful) / $0.seconds),
                        ]
                    }),
        ]
        return result
    }

    /// A document's nodes: one, or a prompt with answers.
    private enum Layout {
        case flat(Int)
        case tree(Int, [Int])

        var count: Int {
            switch self {
            case .flat(let n): n
            case .tree(let prompt, let answers): prompt + answers.reduce(0, +)
            }
        }
    }

    private static func packed(_ documents: [Layout], _ length: Int) throws -> [TrainingSequence] {
        var sequences: [[Layout]] = [[]]
        var used = 0
        for document in documents {
            if used + document.count > length {
                sequences.append([])
                used = 0
            }
            sequences[sequences.count - 1].append(document)
            used += document.count
        }
        return try sequences.map { try sequence($0, length) }
    }

    /// Documents one after another, the tail empty. What the tokens are plays no part here.
    private static func sequence(_ documents: [Layout], _ length: Int) throws -> TrainingSequence {
        var made = TrainingSequence()
        for document in documents {
            let (parents, lengths): ([Int32], [Int32]) =
                switch document {
                case .flat(let n): ([-1], [Int32(n)])
                case .tree(let prompt, let answers):
                    ([-1] + answers.map { _ in 0 }, [Int32(prompt)] + answers.map(Int32.init))
                }
            let first = Int32(made.tokens.count)
            let tree = try Visibility.tree(parents: parents, lengths: lengths)
            made.start += tree.start.map { $0 + first }
            made.limit += tree.limit.map { $0 + first }
            made.positions += tree.positions
            for index in 0..<document.count {
                made.tokens.append(Int32(index % 251))
                made.targets.append(index + 1 < document.count ? Int32((index + 1) % 251) : Int32(-1))
            }
        }
        let tail = length - made.tokens.count
        made.tokens += [Int32](repeating: 0, count: tail)
        made.targets += [Int32](repeating: -1, count: tail)
        for path in [\TrainingSequence.positions, \.start, \.limit] {
            made[keyPath: path] += [Int32](repeating: 0, count: tail)
        }
        return made
    }
}
