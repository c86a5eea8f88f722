import ArgumentParser
import Cases
import Checker
import Foundation
import GoldenIO
import Goldens
import JSON
import ModelSpec
import Platform

struct Mutate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Plant defects and see that they are caught and named: the checker checks itself.",
        discussion: """
            Every deviation that `diagnose` knows is planted in every operation that it concerns, alone and in some pairs, and answers are \
            damaged in ways that it does not know. Each defect is judged by `validate`'s rules over all shipped cases of its operation and \
            diagnosed. A defect whose differences are all legal reorderings is none. Damaged files are written and read as a plug-in's would be.

            Damage is no deviation and has no name: it must be caught, and the rate of named defects is taken over deviations and pairs alone.

            Exit status: 1 if a defect survives, or if fewer than nine of ten that have a name are named; 2 if there was no defect to catch.
            """)

    @Option(name: .long, help: ArgumentHelp("The folder of goldens, or one golden file.", valueName: "path"))
    var goldens = "GoldenData"

    @Option(name: .long, help: "A suite to plant defects in; may be given several times. All by default.")
    var suite: [Suite] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Only defects whose name, with its operation, contains this, * and ? as in --case of `validate`: 'dot.gemm', 'order', 'damage.', 'truncated'.",
            valueName: "text"))
    var only: String?

    @Flag(name: .long, help: "Each deviation in one operation only.")
    var quick = false

    @Flag(name: .long, help: "Print every defect, not only those that are not caught or not named.")
    var verbose = false

    @Option(name: .long, help: "text or json.")
    var format: PlainFormat = .text

    @OptionGroup var threads: ThreadOptions

    @Flag(name: .long, help: "Print nothing but errors; the exit status tells.")
    var quiet = false

    func run() throws {
        threads.apply()
        let paths = try goldenPaths(goldens, suites: suite.map(\.rawValue))
        var cases: [GoldenCase] = []
        for path in paths {
            let file = try GoldenFile(reading: path)
            for name in file.caseNames {
                try Interruption.check()
                cases.append(try file.readCase(name))
            }
        }
        guard !cases.isEmpty else {
            throw JudgingError.nothingToJudge("no golden file of these suites under '\(goldens)'")
        }
        let mutator = Mutator(cases: cases)
        let all = try mutator.mutations(isQuick: quick)
        let pattern = only.flatMap { NamePattern("*\($0)*") }
        let mutations = all.filter { mutation in pattern?.matches(mutation.description) ?? true }
        let files = FileMutation.allCases.filter { file in pattern?.matches(file.rawValue) ?? true }
        if let only, mutations.isEmpty, files.isEmpty { throw Self.noSuchDefect(only, among: all) }
        let bar = ProgressBar("mutate", total: UInt64(mutations.count + files.count), unit: "defects", quiet: quiet)
        let outcomes = try outcomes(mutator, mutations, bar)
        var fileOutcomes: [(FileMutation, String?)] = []
        for mutation in files {
            try Interruption.check()
            fileOutcomes.append((mutation, try mutation.complaint(paths[0])))
            bar.update(UInt64(mutations.count + fileOutcomes.count))
        }
        bar.finish()
        let summary = Summary(outcomes: outcomes, files: fileOutcomes)
        if !quiet {
            switch format {
            case .text: print(summary.text(isVerbose: verbose), terminator: "")
            case .json: print(try summary.json.text(indented: true))
            }
        }
        try end(summary.judgement)
    }

    /// Says which names come near.
    private static func noSuchDefect(_ text: String, among all: [Mutation]) -> ValidationError {
        var names: Set<String> = []
        for mutation in all where mutation.kind != .pair { names.formUnion([mutation.name, mutation.op]) }
        names.formUnion(FileMutation.allCases.map(\.rawValue))
        // What is given may stand for any run of a name's parts.
        func distance(_ name: String) -> Int {
            let parts = name.split(separator: ".")
            var least = editDistance(name, text)
            for first in parts.indices {
                for end in first + 1...parts.count {
                    least = min(least, editDistance(parts[first..<end].joined(separator: "."), text))
                }
            }
            return least
        }
        let near = names.map { ($0, distance($0)) }.sorted { ($0.1, $0.0) < ($1.1, $1.0) }.prefix(3).map { "'\($0.0)'" }
        let question = near.isEmpty ? "" : " Near it: \(near.joined(separator: ", "))."
        return ValidationError("--only \(text) names no defect of these suites.\(question)")
    }

    /// In the order of the defects, on all threads.
    private func outcomes(_ mutator: Mutator, _ mutations: [Mutation], _ bar: ProgressBar) throws -> [MutationOutcome] {
        let progress = WorkProgress { _, fraction in bar.update(UInt64(fraction * Double(mutations.count))) }
        return try WorkProgress.$current.withValue(progress) {
            Workers.map(mutations.count) { index in
                Result {
                    try Interruption.check()
                    return try mutator.outcome(of: mutations[index])
                }
            }
        }.map { try $0.get() }
    }

    struct Summary {
        let outcomes: [MutationOutcome]
        let files: [(mutation: FileMutation, complaint: String?)]

        var illegal: [MutationOutcome] { outcomes.filter { $0.fate != .legal } }
        var caught: Int { illegal.count { $0.fate == .caught } + files.count { $0.complaint != nil } }
        var defects: Int { illegal.count + files.count }
        /// Deviations and pairs: defects that have a name.
        var nameable: Int { illegal.count { $0.mutation.kind.hasName } }
        var named: Int { illegal.count { $0.mutation.kind.hasName && $0.isNamed } }
        /// Damage to answers and files, which no deviation makes: to be caught.
        var accidents: Int { defects - nameable }
        var accidentsCaught: Int {
            illegal.count { !$0.mutation.kind.hasName && $0.fate == .caught } + files.count { $0.complaint != nil }
        }
        /// Legal reorderings are no defects: where there was nothing else, nothing was tried.
        var judgement: Judgement {
            if defects == 0 { return .notJudged }
            return caught == defects && named * 10 >= nameable * 9 ? .conforms : .doesNotConform
        }

        func text(isVerbose: Bool) -> String {
            var lines: [String] = []
            let suites = Dictionary(grouping: outcomes) { $0.mutation.op.split(separator: ".")[0] }
            let order = outcomes.map { $0.mutation.op.split(separator: ".")[0] }
            var seen: Set<Substring> = []
            let header = [
                "operations", "defects", "caught", "named", "pairs named", "damage caught", "legal reorderings",
            ]
            var rows = [header]
            for prefix in order where seen.insert(prefix).inserted {
                let all = suites[prefix] ?? []
                let illegal = all.filter { $0.fate != .legal }
                func share(_ part: [MutationOutcome], _ holds: (MutationOutcome) -> Bool) -> String {
                    part.isEmpty ? "-" : "\(part.count(where: holds)) of \(part.count)"
                }
                rows.append([
                    "\(prefix).*", "\(illegal.count)", "\(illegal.count { $0.fate == .caught })",
                    share(illegal.filter(\.mutation.kind.hasName), \.isNamed),
                    share(illegal.filter { $0.mutation.kind == .pair }, \.isNamed),
                    share(illegal.filter { !$0.mutation.kind.hasName }) { $0.fate == .caught },
                    "\(all.count - illegal.count)",
                ])
            }
            if !files.isEmpty {
                let complaints = files.count { $0.complaint != nil }
                rows.append([
                    "files", "\(files.count)", "\(complaints)", "-", "-", "\(complaints) of \(files.count)", "-",
                ])
            }
            let widths = header.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
            lines += rows.map { row in
                zip(row, widths).enumerated().map { column, cell in
                    let padding = String(repeating: " ", count: cell.1 - cell.0.count)
                    return column == 0 ? cell.0 + padding : padding + cell.0
                }.joined(separator: "  ")
            }
            func line(_ outcome: MutationOutcome) -> String {
                let names = outcome.explanations.isEmpty ? "nothing" : outcome.explanations.joined(separator: ", ")
                return
                    "\(outcome.fate.rawValue)  \(outcome.mutation.description) (\(outcome.wrongCases) of \(counted(outcome.cases, "case"))): \(outcome.mutation.summary); diagnosed: \(names)"
            }
            let survivors = illegal.filter { $0.fate == .survived }
            let unnamed = illegal.filter { $0.mutation.kind.hasName && $0.fate == .caught && !$0.isNamed }
            if isVerbose {
                lines.append("")
                lines += outcomes.map(line)
                lines += files.map {
                    "\($0.complaint == nil ? "survived" : "caught")  file: \($0.mutation.rawValue): \($0.complaint ?? "")"
                }
            } else {
                for (title, list) in [("Survivors:", survivors), ("Caught but not named:", unnamed)] where !list.isEmpty
                {
                    lines += ["", title] + list.prefix(40).map { "  " + line($0) }
                    if list.count > 40 { lines.append("  ... and \(list.count - 40) more; --verbose shows all") }
                }
                for (mutation, complaint) in files where complaint == nil {
                    lines.append("  survived  file: \(mutation.rawValue)")
                }
            }
            let legal = outcomes.count - illegal.count
            let word =
                switch judgement {
                case .conforms: "GOOD"
                case .doesNotConform: "NOT GOOD"
                case .notJudged: "NO DEFECT PLANTED"
                }
            let kinds =
                nameable == 0
                ? "none of them has a name"
                : "\(named) of the \(nameable) that have a name named (\(percent(named, nameable))), which is \(percent(named, defects)) of all"
            lines += [
                "",
                "\(word): \(caught) of \(counted(defects, "defect")) caught (\(percent(caught, defects))); \(kinds)",
                "accidental damage, which has no name: \(accidentsCaught) of \(accidents) caught; \(counted(legal, "plant")) turned out to be legal reorderings",
            ]
            return lines.joined(separator: "\n") + "\n"
        }

        private func percent(_ part: Int, _ whole: Int) -> String {
            whole == 0 ? "-" : String(format: "%.1f %%", 100 * Double(part) / Double(whole))
        }

        var json: JSONValue {
            .object([
                "format": 1, "defects": .integer(Int64(defects)), "caught": .integer(Int64(caught)),
                "nameable": .integer(Int64(nameable)), "named": .integer(Int64(named)),
                "damage": .integer(Int64(accidents)), "damage_caught": .integer(Int64(accidentsCaught)),
                "good": .bool(judgement == .conforms),
                "legal_reorderings": .integer(Int64(outcomes.count - illegal.count)),
                "outcomes": .array(
                    outcomes.map { outcome in
                        .object([
                            "op": .string(outcome.mutation.op), "defect": .string(outcome.mutation.name),
                            "kind": .string(outcome.mutation.kind.rawValue), "fate": .string(outcome.fate.rawValue),
                            "named": .bool(outcome.isNamed),
                            "explanations": .array(outcome.explanations.map(JSONValue.string)),
                            "wrong_cases": .integer(Int64(outcome.wrongCases)), "cases": .integer(Int64(outcome.cases)),
                        ])
                    }),
                "files": .array(
                    files.map {
                        .object([
                            "defect": .string($0.mutation.rawValue),
                            "complaint": $0.complaint.map(JSONValue.string) ?? .null,
                        ])
                    }),
            ])
        }
    }
}

/// Damage to a file of answers, seen through the reader as a plug-in's file is.
enum FileMutation: String, CaseIterable {
    case caseMissing = "case-missing"
    case outputMissing = "output-missing"
    case outputTypeOther = "output-type-other"
    case outputShapeOther = "output-shape-other"
    case outputOneRowMore = "output-one-element-more"
    case inputsOther = "inputs-other"
    case operationOther = "operation-other"
    case casesExchanged = "cases-exchanged"
    case truncated
    case empty
    case notHDF5 = "not-hdf5"
    case byteFlipped = "byte-flipped"

    /// Writes the damaged answers to a golden file's questions and judges them; what the judge says, or nil if it noticed nothing.
    func complaint(_ path: String) throws -> String? {
        let golden = try GoldenFile(reading: path)
        let folder = try TemporaryFolder()
        defer { folder.remove() }
        let candidate = folder.path + "/answers.h5"
        try write(golden, to: candidate)
        var report = Report(subject: rawValue)
        do {
            try Judge.judge(
                try GoldenFile(reading: candidate), against: golden,
                options: JudgingOptions(policy: .exact, requiresAll: true),
                into: &report)
        } catch let error as GoldenIOError {
            return "\(error)"
        }
        for one in report.cases {
            for output in one.outputs where !output.verdict.conforms {
                return "\(one.name): \(output.verdict.rawValue)\(output.note.map { ": " + $0 } ?? "")"
            }
        }
        return nil
    }

    private func write(_ golden: GoldenFile, to path: String) throws {
        let names = golden.caseNames
        let writer = try GoldenWriter(path: path, header: golden.header)
        // A case in the middle that has something to damage.
        var target = names.count / 2
        for (place, name) in names.enumerated() where place >= names.count / 2 {
            let one = try golden.readCase(name, groups: [.inputs, .outputs])
            target = place
            if one.inputs.tensors.first?.tensor.count ?? 0 > 1, one.outputs.tensors.first?.tensor.count ?? 0 > 1 {
                break
            }
        }
        for (place, name) in names.enumerated() {
            var one = try golden.readCase(name, groups: [.inputs, .outputs])
            guard let output = one.outputs.tensors.first, let input = one.inputs.tensors.first else { continue }
            let rest = one.outputs.tensors.dropFirst()
            func replace(_ tensor: Tensor) { one.outputs = TensorGroup([NamedTensor(output.name, tensor)] + rest) }
            if place == target {
                switch self {
                case .caseMissing: continue
                case .outputMissing: one.outputs = TensorGroup(Array(rest))
                case .outputTypeOther:
                    replace(
                        Tensor(
                            (0..<output.tensor.count).map { Double(output.tensor.bits(at: $0) & 0xFF) },
                            shape: output.tensor.shape))
                case .outputShapeOther:
                    replace(
                        try Tensor(
                            type: output.tensor.type, shape: [1] + output.tensor.shape, bytes: output.tensor.bytes))
                case .outputOneRowMore:
                    replace(
                        try Tensor(
                            type: output.tensor.type, shape: [output.tensor.count + 1],
                            bytes: output.tensor.bytes + [UInt8](repeating: 0, count: output.tensor.type.byteWidth)))
                case .inputsOther:
                    var bytes = input.tensor.bytes
                    if !bytes.isEmpty { bytes[0] ^= 1 }
                    one.inputs = TensorGroup(
                        [
                            NamedTensor(
                                input.name, try Tensor(type: input.tensor.type, shape: input.tensor.shape, bytes: bytes)
                            )
                        ]
                            + one.inputs.tensors.dropFirst())
                case .operationOther: one.op = one.op == "bf16.add" ? "bf16.sub" : "bf16.add"
                case .casesExchanged:
                    // Two cases may have the same outputs, as sums in two orders.
                    let right = one.outputs
                    for name in names[..<place].reversed() + names[(place + 1)...] where one.outputs == right {
                        one.outputs = try golden.readCase(name, groups: [.outputs]).outputs
                    }
                default: break
                }
            }
            try writer.write(one)
        }
        try writer.finish()
        var bytes = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
        switch self {
        case .truncated: bytes.removeLast(bytes.count / 3)
        case .empty: bytes = []
        case .notHDF5: bytes = Array("PK".utf8) + bytes
        case .byteFlipped:
            // In the last dataset's bytes, under its checksum.
            bytes[bytes.count - 64] ^= 0x10
        default: return
        }
        try Files.replace(path, with: bytes)
    }
}
