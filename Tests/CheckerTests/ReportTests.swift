import Cases
import Checker
import Foundation
import GoldenIO
import JSON
import Testing

#if canImport(FoundationXML)
    import FoundationXML
#endif

@Suite("Reports")
struct ReportTests {
    private func sample() throws -> Report {
        let golden = try GoldenFile(reading: goldenPath("squinch/encode.h5"))
        var report = Report(subject: "a test")
        let right = try golden.readCase(golden.caseNames[0])
        let blocks = try #require(right.outputs["blocks"])
        var bytes = blocks.bytes
        bytes[6] ^= 1
        var answer = right
        answer.outputs = [NamedTensor("blocks", try Tensor(type: blocks.type, shape: blocks.shape, bytes: bytes))]
        report.append(
            Judge.judge(answer, against: right, suite: "squinch", file: golden.path, options: JudgingOptions()))
        return report
    }

    @Test("text names the case, the element, both values and the inputs")
    func text() throws {
        let text = TextReport().text(try sample())
        for part in [
            "OUTSIDE", "squinch.encode", "first at [1, 0]", "expected 0x", "got      0x", "x  ", "DOES NOT CONFORM",
        ] {
            #expect(text.contains(part), "no '\(part)' in:\n\(text)")
        }
        #expect(!text.contains("\u{1B}"), "no colour unless asked for")
        #expect(TextReport(usesColour: true).text(try sample()).contains("\u{1B}[1;31m"))
    }

    @Test("JSON holds the same, reads back, and is the same every time")
    func json() throws {
        let report = try sample()
        let text = try report.json.text(indented: true)
        #expect(text == (try sample().json.text(indented: true)))
        guard case .object(let object) = try JSONValue(text: text) else {
            Issue.record("not an object")
            return
        }
        #expect(object["conforms"] == .bool(false))
        #expect(object["format"] == .integer(1))
        guard case .array(let cases)? = object["cases"], case .object(let first)? = cases.first,
            case .array(let outputs)? = first["outputs"], case .object(let output)? = outputs.first
        else {
            Issue.record("no cases: \(text)")
            return
        }
        #expect(output["verdict"] == .string("outside"))
        #expect(output["mismatches"] == .integer(1))
        guard case .object(let mismatch)? = output["first"] else {
            Issue.record("no first mismatch")
            return
        }
        #expect(mismatch["index"] == .array([.integer(1), .integer(0)]))
    }

    // MARK: Formats

    /// A report with every verdict, statistics, NaNs, notes, a mask, and characters that HTML and XML give a meaning to.
    private func rich() throws -> Report {
        var report = Report(subject: "a <candidate> & its \"quotes\", a control \u{1} character")
        for path in [
            "dot/gemm.h5", "squinch/encode.h5", "zreg/attention.h5", "visibility/masks.h5", "math/functions.h5",
        ] {
            let golden = try GoldenFile(reading: goldenPath(path))
            for (index, name) in golden.caseNames.enumerated() {
                let right = try golden.readCase(name)
                var answer = right
                answer.outputs = []
                for (number, named) in right.outputs.tensors.enumerated() {
                    var bytes = named.tensor.bytes
                    let width = named.tensor.type.byteWidth
                    switch (index + number) % 6 {
                    case 1: for byte in stride(from: 0, to: bytes.count, by: 3 * width) { bytes[byte] ^= 1 }
                    case 2: if !bytes.isEmpty { bytes[bytes.count / 2] ^= 0x41 }
                    case 3: continue
                    case 4:
                        answer.outputs.append(named.name, Tensor([1] as [UInt8], shape: [1]))
                        continue
                    case 5: for byte in bytes.indices { bytes[byte] = 0xFF }
                    default: break
                    }
                    answer.outputs.append(
                        named.name, try Tensor(type: named.tensor.type, shape: named.tensor.shape, bytes: bytes))
                }
                let options = JudgingOptions(
                    rules: [try #require(PolicyRule("math.*=ulp:1"))], pictures: 1000)
                report.append(
                    Judge.judge(
                        answer, against: right, suite: golden.header.suite, file: golden.path, options: options,
                        wantsPictures: report.needsPictures(options)))
            }
        }
        let golden = try GoldenFile(reading: goldenPath("dot/sums.h5"))
        report.append(
            Judge.failed(
                try golden.readCase(golden.caseNames[0]), suite: "dot", file: golden.path, options: JudgingOptions(),
                verdict: .failed, "was ended by signal 11 <SIGSEGV>"))
        report.append(
            skipped: SkippedCase(suite: "dot", file: golden.path, name: golden.caseNames[1], op: "sum.lane16"))
        report.append(note: "a note: <b> & more")
        for verdict in Verdict.allCases where verdict != .inDistribution {
            #expect(report.count(verdict) > 0, "no \(verdict)")
        }
        return report
    }

    @Test("JSON reports satisfy the published schema, and a changed one does not")
    func schema() throws {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let text = try String(
            contentsOfFile: "/\(root)/Sources/Checker/Checker.docc/report.schema.json", encoding: .utf8)
        let schema = try Schema(JSONValue(text: text))
        for report in [try rich(), try sample(), Report(subject: "nothing")] {
            // As a program reads it.
            let value = try JSONValue(text: report.json.text(indented: true))
            #expect(try schema.complaints(value).prefix(5) == [])
        }
        guard case .object(var object) = try sample().json else {
            Issue.record("a report is not an object")
            return
        }
        object["extra"] = .null
        #expect(try !schema.complaints(.object(object)).isEmpty)
        object["extra"] = nil
        object["conforms"] = .string("no")
        #expect(try !schema.complaints(.object(object)).isEmpty)
        object["conforms"] = nil
        #expect(try !schema.complaints(.object(object)).isEmpty)
    }

    @Test("JUnit XML parses and counts what the report counts")
    func junit() throws {
        let report = try rich()
        let text = JUnitReport().text(report)
        let found = XMLCounts()
        let parser = XMLParser(data: Data(text.utf8))
        parser.delegate = found
        #expect(parser.parse(), "\(parser.parserError.map { "\($0)" } ?? "")")
        #expect(found.counts["testcase"] == report.cases.count + report.skipped.count)
        #expect(found.counts["skipped"] == 1)
        #expect(found.counts["testsuite"] == Set(report.cases.map(\.file)).count + 1)
        let errors = report.cases.count { $0.outputs.contains { $0.verdict == .malformed || $0.verdict == .failed } }
        #expect(found.counts["error"] == errors && errors > 0)
        #expect(found.counts["failure"] == report.cases.count { !$0.conforms } - errors)
        #expect(found.attributes["testsuites"]?["failures"] == "\(found.counts["failure"] ?? -1)")
        #expect(
            found.attributes["testsuites"]?["name"]
                == report.subject.replacingOccurrences(of: "\u{1}", with: "\u{FFFD}"))
        #expect(found.text.contains("expected 0x"), "no details")
        #expect(JUnitReport().text(try rich()) == text, "the same every time")
    }

    @Test("the page is well-formed, holds every picture, and nothing from elsewhere")
    func html() throws {
        let report = try rich()
        let text = HTMLReport(detailLimit: 1000).text(report)
        // The void elements apart, the page is XML.
        let body = text.replacingOccurrences(of: "<!DOCTYPE html>", with: "")
            .replacingOccurrences(of: "<meta[^>]*>|<link[^>]*>", with: "", options: .regularExpression)
        let found = XMLCounts()
        let parser = XMLParser(data: Data(body.utf8))
        parser.delegate = found
        #expect(parser.parse(), "\(parser.parserError.map { "\($0)" } ?? "") at line \(parser.lineNumber)")
        let failing = report.cases.flatMap(\.outputs).filter { !$0.verdict.conforms }
        // Outputs that were not answered for one reason share a section.
        let alone = failing.filter { $0.mismatches > 0 || $0.note == nil }
        let reasons = Set(failing.filter { $0.mismatches == 0 }.map { "\($0.verdict) \($0.note ?? "")" })
        #expect(found.counts["section"] == alone.count + reasons.count && reasons.count < failing.count - alone.count)
        #expect((found.counts["svg"] ?? 0) > failing.count { $0.mismatches > 0 })
        for part in ["http", "src=", "<script", "@import", "url("] { #expect(!text.contains(part), "\(part)") }
        for part in [
            "prefers-color-scheme", "ulps", "share of the bound", "visibility mask", "last index", "NOT ALL JUDGED",
        ] {
            #expect(text.lowercased().contains(part.lowercased()), "\(part)")
        }
        #expect(HTMLReport(detailLimit: 1000).text(try rich()) == text, "the same every time")
    }

    @Test(
        "heat map and density count every mismatch once, whatever the shape",
        arguments: [[], [7], [200], [3, 5], [130, 70], [2, 3, 65, 64], [1, 1]])
    func pictures(_ shape: [Int]) throws {
        let count = shape.reduce(1, *)
        let right = GoldenCase(
            name: "c", op: "math.exp",
            outputs: [NamedTensor("y", Tensor([Float](repeating: 3, count: count), shape: shape))])
        let values = (0..<count).map { $0 % 2 == 0 ? Float(3).nextUp : 3 }
        let answer = GoldenCase(name: "c", op: "math.exp", outputs: [NamedTensor("y", Tensor(values, shape: shape))])
        let found = Judge.judge(
            answer, against: right, suite: "s", file: "f", options: JudgingOptions(), wantsPictures: true)
        let pictures = try #require(found.outputs[0].pictures)
        #expect(pictures.heatMap.counts.reduce(0, +) == (count + 1) / 2)
        #expect(pictures.density.values.reduce(0, +) == (count + 1) / 2)
        #expect(pictures.heatMap.cellRows <= 64 && pictures.heatMap.cellColumns <= 64)
        for (size, cells) in [
            (pictures.heatMap.rows, pictures.heatMap.cellRows),
            (pictures.heatMap.columns, pictures.heatMap.cellColumns),
        ] {
            // The ranges of the cells tile the dimension, and agree with how elements are dealt.
            for element in 0..<size {
                #expect(ErrorPictures.HeatMap.range(element * cells / size, of: size, in: cells).contains(element))
            }
        }
    }
}

/// Counts elements of an XML document.
private final class XMLCounts: NSObject, XMLParserDelegate {
    var counts: [String: Int] = [:]
    var attributes: [String: [String: String]] = [:]
    var text = ""

    func parser(
        _ parser: XMLParser, didStartElement name: String, namespaceURI: String?, qualifiedName: String?,
        attributes found: [String: String]
    ) {
        counts[name, default: 0] += 1
        attributes[name] = found
    }

    func parser(_ parser: XMLParser, foundCharacters string: String) { text += string }
}

/// The keywords of JSON Schema that the published schema uses; any other is an error, so that none is ignored.
private struct Schema {
    let root: [String: JSONValue]

    struct Unknown: Error { let keyword: String }

    init(_ value: JSONValue) throws {
        guard case .object(let root) = value else { throw Unknown(keyword: "not an object") }
        self.root = root
    }

    func complaints(_ value: JSONValue) throws -> [String] { try complaints(value, root, "") }

    private func complaints(_ value: JSONValue, _ schema: [String: JSONValue], _ path: String) throws -> [String] {
        var found: [String] = []
        for (keyword, rule) in schema {
            switch (keyword, rule, value) {
            case ("$schema", _, _), ("$defs", _, _), ("title", _, _), ("description", _, _): break
            case ("$ref", .string(let name), _):
                guard case .object(let definitions)? = root["$defs"],
                    case .object(let target)? = definitions[String(name.dropFirst("#/$defs/".count))]
                else { throw Unknown(keyword: name) }
                found += try complaints(value, target, path)
            case ("type", .string(let name), _):
                if !isType(value, name) { found.append("\(path): \(value) is no \(name)") }
            case ("type", .array(let names), _):
                if !names.contains(where: { if case .string(let name) = $0 { isType(value, name) } else { false } }) {
                    found.append("\(path): \(value) is none of \(names)")
                }
            case ("const", _, _): if value != rule { found.append("\(path): \(value) is not \(rule)") }
            case ("enum", .array(let values), _):
                if !values.contains(value) { found.append("\(path): \(value) is none of \(values)") }
            case ("minimum", .integer(let least), .integer(let number)):
                if number < least { found.append("\(path): \(number) is below \(least)") }
            case ("pattern", .string(let pattern), .string(let text)):
                if text.range(of: pattern, options: .regularExpression) == nil {
                    found.append("\(path): '\(text)' is no \(pattern)")
                }
            case ("required", .array(let names), .object(let object)):
                for case .string(let name) in names where object[name] == nil { found.append("\(path): no \(name)") }
            case ("properties", .object(let properties), .object(let object)):
                for case (let name, .object(let rule)) in properties {
                    if let member = object[name] { found += try complaints(member, rule, "\(path)/\(name)") }
                }
            case ("additionalProperties", _, .object(let object)):
                var known: Set<String> = []
                if case .object(let properties)? = schema["properties"] { known = Set(properties.keys) }
                for (name, member) in object where !known.contains(name) {
                    if case .object(let rule) = rule {
                        found += try complaints(member, rule, "\(path)/\(name)")
                    } else {
                        found.append("\(path): '\(name)' is not in the schema")
                    }
                }
            case ("propertyNames", .object(let rule), .object(let object)):
                for name in object.keys { found += try complaints(.string(name), rule, "\(path)/\(name)") }
            case ("items", .object(let rule), .array(let items)):
                for (index, item) in items.enumerated() { found += try complaints(item, rule, "\(path)/\(index)") }
            // A keyword about another type says nothing.
            case ("minimum", .integer, _), ("pattern", .string, _), ("required", .array, _), ("properties", .object, _),
                ("additionalProperties", _, _), ("propertyNames", .object, _), ("items", .object, _):
                break
            default: throw Unknown(keyword: "\(path): \(keyword)")
            }
        }
        return found
    }

    private func isType(_ value: JSONValue, _ name: String) -> Bool {
        switch (value, name) {
        case (.object, "object"), (.array, "array"), (.string, "string"), (.bool, "boolean"), (.null, "null"),
            (.integer, "integer"), (.integer, "number"), (.number, "number"):
            true
        default: false
        }
    }
}
