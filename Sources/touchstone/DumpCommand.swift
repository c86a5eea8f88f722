import ArgumentParser
import Cases
import Checker
import Foundation
import GoldenIO
import JSON
import Platform

struct Dump: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Look into a golden file.",
        discussion: """
            Without options: the file's attributes and one line a case. With --case: what the case is there to catch, its \
            recipe, and the first values of each dataset with their bits, side by side. --dataset picks one \
            (inputs/a, outputs/r ...), --count says how many values, --start where to begin. With --case and --image: a \
            picture of the case's visibility mask, queries down and keys across, as PNG or SVG by the file's extension.
            """)

    @Argument(help: ArgumentHelp("The golden file.", valueName: "file.h5"))
    var file: String

    @Option(
        name: .customLong("case"),
        help: ArgumentHelp("Show this case, or several: * stands for any text, ? for a character.", valueName: "name"))
    var pattern: NamePattern?

    @Option(name: .long, help: "Show this dataset of the case only, as group/name.")
    var dataset: String?

    @Option(name: .long, help: "The first element to show, in C order.", reading: Number.whole(0...1 << 50))
    var start = 0

    @Option(
        name: .long, help: "How many elements of each dataset to show; 0 for all.", reading: Number.whole(0...1 << 50)
    )
    var count = 16

    @Option(name: .long, help: ArgumentHelp("Draw the case's visibility mask here.", valueName: "out.png|out.svg"))
    var image: String?

    @Option(name: .long, help: "Which batch entry of the mask to draw.", reading: Number.whole(0...1 << 30))
    var batch = 0

    func validate() throws {
        if let image {
            if pattern == nil { throw ValidationError("--image needs --case.") }
            guard image.hasSuffix(".png") || image.hasSuffix(".svg") else {
                throw ValidationError("--image takes a name that ends in .png or .svg.")
            }
        }
        if dataset != nil && pattern == nil { throw ValidationError("--dataset needs --case.") }
    }

    func run() throws {
        let golden = try GoldenFile(reading: file)
        guard let pattern else { return try summary(of: golden) }
        let names = golden.caseNames.filter(pattern.matches)
        if names.isEmpty {
            throw CommandError("\(file): no case '\(pattern)'; it has \(golden.caseNames.joined(separator: ", "))")
        }
        if image != nil && names.count > 1 {
            throw CommandError("--image draws one case, and '\(pattern)' names \(names.count): \(listed(names))")
        }
        for (number, name) in names.enumerated() {
            if number > 0 { print() }
            var unreadable: [(name: String, why: String)] = []
            let goldenCase = try golden.readCase(name) {
                unreadable.append(("\($0.rawValue)/\($1)", $2.message))
            }
            try show(goldenCase, unreadable)
        }
    }

    private func show(_ goldenCase: GoldenCase, _ unreadable: [(name: String, why: String)]) throws {
        let caseName = goldenCase.name
        if let image {
            guard let mask = try MaskImage(goldenCase, batch: batch) else {
                throw CommandError("\(file): case '\(caseName)' has no visibility mask to draw")
            }
            try Files.replace(image, with: image.hasSuffix(".png") ? mask.png() : mask.svg())
            return
        }
        print("case    \(goldenCase.name)")
        print("op      \(goldenCase.op)")
        if !goldenCase.why.isEmpty { print("why     \(goldenCase.why)") }
        print("clauses \(goldenCase.specClauses.joined(separator: " "))")
        print("recipe  \(try JSONValue.object(goldenCase.recipe).text())")
        var shown = 0
        for group in CaseGroup.allCases {
            for named in goldenCase[group].tensors where dataset == nil || dataset == "\(group.rawValue)/\(named.name)"
            {
                show("\(group.rawValue)/\(named.name)", named.tensor)
                shown += 1
            }
        }
        for (name, why) in unreadable where dataset == nil || dataset == name {
            print("\n\(name)  cannot be read: \(why)")
            shown += 1
        }
        if let dataset, shown == 0 { throw CommandError("\(file): case '\(caseName)' has no dataset '\(dataset)'") }
    }

    private func summary(of golden: GoldenFile) throws {
        let header = golden.header
        print("file      \(file)")
        print("suite     \(header.suite)")
        print("tier      \(header.tier)")
        print("spec      \(header.specVersion)")
        print("generator \(header.generator)")
        print("seed      0x\(String(header.seed, radix: 16))")
        print("cases     \(golden.caseNames.count)")
        let width = golden.caseNames.map(\.count).max() ?? 0
        for name in golden.caseNames {
            var unreadable: [String] = []
            let goldenCase = try golden.readCase(name, groups: [.inputs, .outputs]) { group, name, _ in
                unreadable.append("\(group.rawValue)/\(name)")
            }
            func shapes(_ group: TensorGroup) -> String {
                group.tensors.map { "\($0.name) \($0.tensor.type.rawValue)\($0.tensor.shape)" }.joined(separator: ", ")
            }
            let padded = name + String(repeating: " ", count: width - name.count)
            print("  \(padded)  \(goldenCase.op): \(shapes(goldenCase.inputs)) -> \(shapes(goldenCase.outputs))")
            if !unreadable.isEmpty {
                print(
                    "  \(String(repeating: " ", count: width))  cannot be read: \(unreadable.joined(separator: ", "))")
            }
        }
    }

    private func show(_ name: String, _ tensor: Tensor) {
        print("\n\(name)  \(tensor.type.rawValue) \(tensor.shape)")
        let end = count == 0 ? tensor.count : min(tensor.count, start + count)
        guard start < end else { return }
        for index in start..<end {
            let position = "[\(multiIndex(index, tensor.shape).map(String.init).joined(separator: ", "))]"
            print(
                "  \(position.padding(toLength: max(12, position.count), withPad: " ", startingAt: 0))  \(tensor.bitsText(at: index))  \(tensor.valueText(at: index))"
            )
        }
        if end < tensor.count { print("  ... \(tensor.count - end) more") }
    }

    private func multiIndex(_ index: Int, _ shape: [Int]) -> [Int] {
        var rest = index
        var result: [Int] = []
        for size in shape.reversed() {
            result.append(rest % size)
            rest /= size
        }
        return result.reversed()
    }
}
