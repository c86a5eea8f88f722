import Cases
import Foundation
import GoldenIO
import Goldens
import Testing

import Checker

/// The shipped cases, by operation.
enum ShippedCases {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("GoldenData").path

    static let byOperation: [String: [GoldenCase]] = {
        var all: [String: [GoldenCase]] = [:]
        do {
            for file in try Manifest(reading: folder + "/MANIFEST.json").files {
                let golden = try GoldenFile(reading: folder + "/" + file.path)
                for name in golden.caseNames {
                    let one = try golden.readCase(name)
                    all[one.op, default: []].append(one)
                }
            }
        } catch { Issue.record("\(error)") }
        return all
    }()
}

@Suite("Deviations")
struct DeviationTests {
    @Test("names are unique, and say family, axis and alternative")
    func names() {
        for family in DeviationCatalog.families {
            let names = family.deviations.map(\.name)
            #expect(Set(names).count == names.count, "\(family.name)")
            for deviation in family.deviations {
                #expect(deviation.name.split(separator: ".").count >= 3, "\(deviation.name)")
                #expect(!deviation.summary.isEmpty && deviation.summary.last != ".", "\(deviation.name)")
            }
        }
    }

    @Test(
        "a family that computes gives the goldens' bits when nothing deviates",
        arguments: DeviationCatalog.families.filter { $0.compute != nil })
    func nothingDeviates(_ family: VariantFamily) throws {
        let compute = try #require(family.compute)
        for op in family.operations {
            for golden in ShippedCases.byOperation[op] ?? [] {
                let outputs = try compute(CheckedCase(golden), Choices()).outputs
                for named in golden.outputs.tensors {
                    let got = try #require(outputs[named.name], "\(op) \(golden.name) \(named.name)")
                    #expect(got.shape == named.tensor.shape)
                    let wrong = (0..<got.count).first { !NaNRule.asClass.isEqual(got, named.tensor, $0) }
                    if let wrong {
                        Issue.record(
                            "\(golden.name), \(named.name)[\(wrong)] is \(got.bitsText(at: wrong)), expected \(named.tensor.bitsText(at: wrong))"
                        )
                    }
                }
            }
        }
    }

    @Test(
        "every deviation of a family is told from the specification by some shipped case",
        arguments: DeviationCatalog.families)
    func distinguished(_ family: VariantFamily) throws {
        var gaps = Set(GoldenGaps.names[family.name] ?? [])
        for deviation in family.deviations {
            var isSeen = false
            search: for op in family.operations {
                for golden in ShippedCases.byOperation[op] ?? [] {
                    if let outputs = try DeviationCatalog.outputs(of: golden, under: [deviation]),
                        outputs != golden.outputs
                    {
                        isSeen = true
                        break search
                    }
                }
            }
            if let entry = GoldenGaps.entry(family, deviation) {
                if !isSeen { gaps.remove(entry) }
            } else {
                #expect(isSeen, "\(deviation.name)")
            }
        }
        #expect(gaps.isEmpty, "a shipped case closes these gaps")
    }
}
