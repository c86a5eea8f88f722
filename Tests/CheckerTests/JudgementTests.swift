import Cases
import Checker
import GoldenIO
import Testing

@Suite("Verdict, word and exit status say the same; names are matched in one way")
struct JudgementTests {
    private func golden() throws -> (GoldenFile, GoldenCase) {
        let file = try GoldenFile(reading: goldenPath("squinch/encode.h5"))
        return (file, try file.readCase(file.caseNames[0]))
    }

    private func judged(_ change: (inout GoldenCase) -> Void) throws -> CaseReport {
        let (file, right) = try golden()
        var answer = right
        change(&answer)
        return Judge.judge(answer, against: right, suite: "squinch", file: file.path, options: JudgingOptions())
    }

    private func failed(_ why: String, name: String) throws -> CaseReport {
        let (file, right) = try golden()
        var one = right
        one.name = name
        return Judge.failed(
            one, suite: "squinch", file: file.path, options: JudgingOptions(), verdict: .failed, why)
    }

    @Test("what a report comes to")
    func judgements() throws {
        func report(_ change: (inout Report) throws -> Void) rethrows -> Report {
            var report = Report(subject: "test")
            try change(&report)
            return report
        }
        let right = try judged { _ in }
        let wrong = try judged { $0.outputs = [NamedTensor("blocks", Tensor([0] as [UInt8], shape: [1, 1]))] }
        let noOutputs = CaseReport(suite: "s", file: "f", name: "n", op: "o", why: "", recipe: [:], outputs: [])
        let reports: [(Report, Judgement)] = [
            (report { _ in }, .notJudged), (report { $0.append(noOutputs) }, .notJudged),
            (report { $0.append(right) }, .conforms),
            (
                report {
                    $0.append(right)
                    $0.append(note: "a note")
                    $0.append(skipped: SkippedCase(suite: "s", file: "f", name: "n", op: "o"))
                }, .conforms
            ),
            (
                report {
                    $0.append(right)
                    $0.append(difference: "only in b: case 'x'")
                }, .doesNotConform
            ),
            (report { $0.append(difference: "only in b: case 'x'") }, .doesNotConform),
            (
                report {
                    $0.append(right)
                    $0.append(wrong)
                }, .doesNotConform
            ),
            (
                try report {
                    $0.append(wrong)
                    $0.append(try failed("crashed", name: "c"))
                }, .notJudged
            ),
        ]
        for (report, judgement) in reports {
            #expect(report.judgement == judgement)
            let summary = TextReport().summary(report)
            #expect(summary.hasPrefix(judgement.word + ":"), "\(summary)")
            #expect(report.conforms == (judgement == .conforms) && report.isJudged == (judgement != .notJudged))
        }
        #expect(Judgement.allCases.map(\.exitStatus) == [0, 1, 2])
        #expect(TextReport().text(reports[4].0).contains("difference: only in b"))
    }

    @Test("outputs that failed for one reason are one block with the reason first; a reason of its own is another")
    func groups() throws {
        var report = Report(subject: "test")
        for number in 0..<12 {
            report.append(
                try failed("the command failed with exit status 3; it printed:\n    no module", name: "c\(number)"))
        }
        report.append(try failed("was ended by signal 11", name: "other"))
        let lines = TextReport().text(report).split(separator: "\n").map(String.init)
        let heads = lines.indices.filter { lines[$0].hasPrefix("FAILED") }
        #expect(heads.count == 2, "\(lines)")
        #expect(lines[heads[0]] == "FAILED  the command failed with exit status 3; it printed:")
        #expect(lines[heads[0] + 1] == "    no module")
        #expect(lines[heads[0] + 2] == "  12 outputs in 12 cases of 1 file: squinch.encode")
        #expect(lines[heads[1]].contains("squinch: other: outputs/blocks"))
        #expect(lines[heads[1] + 1] == "  was ended by signal 11")
    }

    @Test("nothing from outside reaches a text report as a command to a terminal")
    func printable() throws {
        let evil = "a\u{1B}[2J\u{7}\0\u{9B}31m\u{202E}\r"
        var one = try failed("it printed:\n    \(evil)", name: evil)
        one = CaseReport(
            suite: evil, file: evil, name: evil, op: evil, why: evil, recipe: ["key\u{1B}": .string(evil)],
            outputs: one.outputs)
        var report = Report(subject: evil)
        report.append(one)
        report.append(note: evil)
        report.append(difference: evil)
        report.append(skipped: SkippedCase(suite: evil, file: evil, name: evil, op: evil))
        for text in [
            TextReport(usesColour: false).text(report), DiagnosisReport(report).text(),
            TextReport(usesColour: true).text(report).replacing(/\u{1B}\[(1;31|1;32|0)m/, with: ""),
        ] {
            let commands = text.unicodeScalars.filter {
                $0 != "\n" && ($0.properties.generalCategory == .control || $0.properties.generalCategory == .format)
            }
            #expect(commands.isEmpty, "\(commands.map(\.value))")
            #expect(text.contains("a\\u001B[2J\\u0007\\u0000\\u009B31m\\u202E\\r"))
        }
    }

    @Test(
        "patterns of names",
        arguments: [
            ("add", "add", true), ("add", "adder", false), ("add*", "adder", true), ("*", "", true), ("*", "x", true),
            ("*-rne", "add-rne", true), ("*-rne", "add-rne-2", false), ("a*b*c", "a--b--c", true),
            ("a*b*c", "a--c--b", false), ("a*bc", "abbc", true), ("?", "", false), ("?", "é", true),
            ("a?c", "abc", true), ("a?c", "ac", false), ("**x", "x", true), ("a**", "a", true),
            ("[a]", "a", false), ("[a]", "[a]", true), ("a*", "A", false),
        ])
    func patterns(_ pattern: String, _ name: String, _ matches: Bool) throws {
        #expect(try #require(NamePattern(pattern)).matches(name) == matches)
    }

    @Test("cases are selected and excluded by name and by operation; a pattern that names nothing is refused")
    func selection() throws {
        let file = try GoldenFile(reading: goldenPath("bf16/arithmetic.h5"))
        let rne = try CaseSelection(cases: ["*-rne"]).names(in: file)
        #expect(!rne.isEmpty && rne == file.caseNames.filter { $0.hasSuffix("-rne") })
        let rest = try CaseSelection(cases: ["*-rne"], excluded: ["bf16.add", "*tie*"]).names(in: file)
        #expect(!rest.isEmpty && rest.count < rne.count)
        for name in rest { #expect(try file.readCase(name).op != "bf16.add" && !name.contains("tie")) }
        #expect(try CaseSelection(excluded: ["bf16.add"]).require(in: [file]) > 0)
        for selection in [
            CaseSelection(cases: ["nosuch"]), CaseSelection(cases: ["*-rne", "nosuch*"]),
            CaseSelection(excluded: ["nosuch"]), CaseSelection(cases: ["*-rne"], excluded: ["*"]),
        ] {
            #expect(throws: JudgingError.self, "\(selection)") { try selection.require(in: [file]) }
        }
    }
}
